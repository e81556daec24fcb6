"""From prompts to experience: responses, and what the four models say of them.

Every rank answers its share of the prompts and then holds the experience of all, so that whitening,
minibatches and statistics are those of the global batch whatever the number of ranks.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np
import torch

from .four_models import FourModels
from .modules import response_choices, response_log_probs, response_positions
from .ranks import Ranks
from .rollout import Decoding, Response, respond
from .rows import PaddedPairs, by_length, pad_pairs
from .training import in_step


@dataclass(frozen=True)
class Row:
    """One response and what is known of it; arrays have the response's length T.

    Attributes:
        log_probs: of the actor when it drew the response, in evaluation mode.
        reference: log-probabilities of the reference.
        values: the critic's, seen before each token.
        entropy: of the choice at each token, in nats.
        score: the reward model's, of the whole response, as it comes.
    """

    prompt: np.ndarray
    response: np.ndarray
    stopped: bool
    log_probs: np.ndarray
    reference: np.ndarray
    values: np.ndarray
    entropy: np.ndarray
    score: float


def collect(
    models: FourModels,
    prompts: Sequence[np.ndarray],
    numbers: Sequence[int],
    decoding: Decoding,
    *,
    ranks: Ranks,
    generate_at_once: int,
    score_at_once: int,
    beat: Callable[[], None],
) -> list[Row]:
    """Answer all ``prompts`` over the ranks and score them; every rank returns all rows, in order.

    Args:
        models: the four.
        prompts: of the whole global batch, the same on every rank.
        numbers: the number of each prompt's draw.
        decoding: how to draw.
        ranks: this process among its equals.
        generate_at_once: rows of one decoding batch.
        score_at_once: rows of one scoring forward.
        beat: shows that the stage gets on.
    """
    models.evaluating()
    mine = list(ranks.share(len(prompts)))
    lengths = np.array([len(prompt) for prompt in prompts])
    rows: dict[int, Row] = {}
    for group, counts in in_step(by_length(mine, lengths, generate_at_once), ranks, beat):
        responses = respond(
            models.actor.module,
            [prompts[place] for place in group],
            [numbers[place] for place in group],
            decoding,
            device=ranks.device,
            all_done=ranks.all if models.sharded_generation else bool,
            beat=beat,
        )
        # A dummy group keeps the ranks in step and has one row; scoring cuts alike on all ranks below.
        if counts:
            answered = dict(zip(group, responses, strict=True))
            rows |= {place: _unscored(prompts[place], response) for place, response in answered.items()}
    _score(models, rows, decoding, score_at_once, ranks, beat)
    parts = ranks.gather([rows[place] for place in mine])
    return [row for part in parts for row in part]  # type: ignore[attr-defined]


def _unscored(prompt: np.ndarray, response: Response) -> Row:
    nothing = np.zeros(0, dtype=np.float32)
    return Row(prompt, response.ids, response.stopped, nothing, nothing, nothing, nothing, 0.0)


@torch.no_grad()
def _score(
    models: FourModels,
    rows: dict[int, Row],
    decoding: Decoding,
    at_once: int,
    ranks: Ranks,
    beat: Callable[[], None],
) -> None:
    places = sorted(rows)
    lengths = np.zeros(max(places, default=0) + 1, dtype=np.int64)
    for place in places:
        lengths[place] = len(rows[place].prompt) + len(rows[place].response)
    for group, counts in in_step(by_length(places, lengths, at_once), ranks, beat):
        # A dummy names row 0, which may be another rank's: any row of ours will do, or one token.
        chosen = [rows[place] for place in group] if counts else [_any_row(rows, decoding)]
        batch = pad_pairs(
            [r.prompt for r in chosen], [r.response for r in chosen], decoding.filler, ranks.device
        )
        temperature = decoding.temperature or 1.0
        about = (batch.ids, batch.mask, batch.starts, batch.responses, temperature)
        log_probs, entropy = response_choices(models.actor, *about)
        reference = response_log_probs(models.reference, *about)
        values = response_values(models.critic, batch)
        scores = models.reward(batch.ids, batch.mask).gather(1, batch.ends.unsqueeze(1)).squeeze(1)
        if not counts:
            continue
        for index, (place, row) in enumerate(zip(group, chosen, strict=True)):
            size = len(row.response)
            rows[place] = Row(
                row.prompt,
                row.response,
                row.stopped,
                *(
                    part[index, :size].float().cpu().numpy()
                    for part in (log_probs, reference, values, entropy)
                ),
                score=float(scores[index]),
            )


def _any_row(rows: dict[int, Row], decoding: Decoding) -> Row:
    if rows:
        return next(iter(rows.values()))
    token = np.array([decoding.filler])
    return _unscored(token, Response(token, False))


def response_values(critic: torch.nn.Module, batch: PaddedPairs) -> torch.Tensor:
    """(B, T) fp32 values seen before each response token."""
    select = response_positions(batch.starts, batch.responses.shape[1], batch.ids.shape[1])
    values: torch.Tensor = critic(batch.ids, batch.mask).gather(1, select)
    return values
