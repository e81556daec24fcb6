"""What the models do: answers to prompts, their log-probabilities, the reward model's scores."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np
import torch

from ..common.modules import Policy, Scorer, response_log_probs
from ..common.rollout import Decoding, Response, respond
from ..common.rows import PaddedPairs, by_length, pad_pairs


@dataclass(frozen=True)
class Bench:
    """What every measurement needs: the prompts of this rank, how to batch them, and where.

    Attributes:
        prompts: ids of each prompt.
        references: ids of each wanted response; empty where the data has none.
        numbers: the number of each prompt, which seeds its draw.
        micro: rows of one forward.
        filler: id at padded places.
        beat: shows that the stage gets on.
    """

    prompts: list[np.ndarray]
    references: list[np.ndarray]
    numbers: list[int]
    micro: int
    filler: int
    device: torch.device
    beat: Callable[[], None]

    def answer(self, policy: Policy, decoding: Decoding) -> list[Response]:
        """Answer every prompt."""
        responses: dict[int, Response] = {}
        for group in self._groups([0] * len(self.prompts)):
            drawn = respond(
                policy,
                [self.prompts[place] for place in group],
                [self.numbers[place] for place in group],
                decoding,
                device=self.device,
                all_done=bool,
                beat=self.beat,
            )
            responses |= dict(zip(group, drawn, strict=True))
        return [responses[place] for place in range(len(self.prompts))]

    def log_probs(self, policy: Policy, responses: Sequence[np.ndarray], temperature: float) -> list[float]:
        """Σ log p of each response's tokens, given its prompt."""

        def summed(batch: PaddedPairs) -> torch.Tensor:
            about = (batch.ids, batch.mask, batch.starts, batch.responses)
            tokens = response_log_probs(policy, *about, temperature)
            return (tokens * batch.response_mask).sum(dim=1)

        return self._each(responses, summed)

    def scores(self, scorer: Scorer, responses: Sequence[np.ndarray]) -> list[float]:
        """The reward model's score of each response."""
        return self._each(
            responses,
            lambda batch: scorer(batch.ids, batch.mask).gather(1, batch.ends.unsqueeze(1)).squeeze(1),
        )

    @torch.no_grad()
    def _each(
        self, responses: Sequence[np.ndarray], measure: Callable[[PaddedPairs], torch.Tensor]
    ) -> list[float]:
        values: dict[int, float] = {}
        for group in self._groups([len(response) for response in responses]):
            self.beat()
            prompts = [self.prompts[place] for place in group]
            batch = pad_pairs(prompts, [responses[place] for place in group], self.filler, self.device)
            values |= dict(zip(group, measure(batch).tolist(), strict=True))
        return [values[place] for place in range(len(responses))]

    def _groups(self, extra: Sequence[int]) -> list[list[int]]:
        """Places in micro-batches of like length; ``extra`` are the tokens after each prompt."""
        lengths = np.array([len(p) + e for p, e in zip(self.prompts, extra, strict=True)], dtype=np.int64)
        return by_length(range(len(self.prompts)), lengths, self.micro)
