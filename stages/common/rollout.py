"""Drawing responses: batched decoding with a cache, and randomness that belongs to the row.

Each row has its own counter-based generator, seeded by (seed, row), that gives one uniform number a
token. So a response depends neither on the rows beside it nor on how many ranks there are, and a
resumed run needs no generator state to draw what it would have drawn.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Sequence
from dataclasses import dataclass

import numpy as np
import torch
from torch import nn

from .modules import row_positions
from .rows import Purpose, generator, pad_left


@dataclass(frozen=True)
class Response:
    """Ids up to and including the first stop token; ``stopped`` is False when it was cut off."""

    ids: np.ndarray
    stopped: bool


@dataclass(frozen=True)
class Decoding:
    """How responses are drawn.

    Attributes:
        max_tokens: longest response.
        temperature: 0 takes the most likely token.
        stop_ids: tokens that end a response; part of it.
        filler: id at padded places.
        seed: of the whole draw; rows are told apart by their numbers.
        purpose: evaluation draws are not those of training.
    """

    max_tokens: int
    temperature: float
    stop_ids: frozenset[int]
    filler: int
    seed: int
    purpose: Purpose = Purpose.TRAINING_DRAW


def pick(logits: torch.Tensor, uniforms: torch.Tensor, temperature: float) -> torch.Tensor:
    """One token a row: the inverse of the cumulative distribution at ``uniforms``.

    Args:
        logits: (B, V).
        uniforms: (B,) float64 in [0, 1).
        temperature: 0 takes the most likely token.

    Returns:
        (B,) ids.
    """
    if temperature == 0:
        return logits.argmax(-1)
    # float64: in fp32 the sum over a large vocabulary would move the last tokens' shares.
    cumulative = (logits.double() / temperature).softmax(-1).cumsum(-1)
    index = torch.searchsorted(cumulative, (uniforms * cumulative[:, -1]).unsqueeze(-1), right=True)
    return index.squeeze(-1).clamp(max=logits.shape[-1] - 1)


@torch.no_grad()
def respond(
    policy: nn.Module,
    prompts: Sequence[np.ndarray],
    numbers: Sequence[int],
    decoding: Decoding,
    *,
    device: torch.device,
    all_done: Callable[[bool], bool],
    beat: Callable[[], None],
) -> list[Response]:
    """Answer ``prompts`` together.

    Args:
        policy: a :class:`~.modules.Policy` in evaluation mode.
        prompts: ids of each prompt.
        numbers: the number of each row, which seeds its draw.
        decoding: how to draw.
        device: where the policy is.
        all_done: whether all ranks are done, given that this one is; under ZeRO 3 every rank must take
            part in every forward, so a rank that is done goes on until all are.
        beat: shows that the stage gets on; called at each token.

    Returns:
        One response a prompt, in their order.
    """
    batch = pad_left(prompts, decoding.filler, device)
    uniforms = _uniforms(numbers, decoding).to(device)
    stops = torch.tensor(sorted(decoding.stop_ids), device=device)
    mask, ids, positions, cache = batch.mask, batch.ids, row_positions(batch.mask), None
    done = torch.zeros(len(prompts), dtype=torch.bool, device=device)
    drawn: list[torch.Tensor] = []
    for step in range(decoding.max_tokens):
        beat()
        logits, cache = policy(ids, mask, positions, cache=cache, use_cache=True)
        token = pick(logits[:, -1], uniforms[:, step], decoding.temperature)
        token = torch.where(done, decoding.filler, token)
        drawn.append(token)
        done = done | torch.isin(token, stops)
        if all_done(bool(done.all())):
            break
        ids = token.unsqueeze(-1)
        mask = torch.cat([mask, torch.ones_like(mask[:, :1])], dim=1)
        positions = positions[:, -1:] + 1
    return _cut(torch.stack(drawn, dim=1).cpu().numpy(), decoding.stop_ids)


def _uniforms(numbers: Sequence[int], decoding: Decoding) -> torch.Tensor:
    """(B, max_tokens) float64 in [0, 1), those of each row its own."""
    draws = [generator(decoding.seed, row, decoding.purpose).random(decoding.max_tokens) for row in numbers]
    return torch.from_numpy(np.stack(draws))


def _cut(drawn: np.ndarray, stop_ids: Collection[int]) -> list[Response]:
    responses = []
    for row in drawn:
        stops = np.flatnonzero(np.isin(row, list(stop_ids)))
        end = int(stops[0]) + 1 if len(stops) else len(row)
        responses.append(Response(row[:end], bool(len(stops))))
    return responses
