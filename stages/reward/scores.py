"""Scores of both sides of preference pairs, of whole responses or token by token."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import torch

from ..common.losses import summed_token_ranking_loss
from ..common.rows import Padded, pad_right
from ..common.tokenfiles import TokenFile


class PairScores:
    """Scores of pairs, chosen and rejected in one forward."""

    def __init__(self, scorer: torch.nn.Module, rows: TokenFile, filler: int, device: torch.device) -> None:
        self.scorer, self.rows, self.filler, self.device = scorer, rows, filler, device

    def __call__(self, rows: Sequence[int]) -> tuple[torch.Tensor, torch.Tensor]:
        """(chosen, rejected) scores of these pairs at their last real token, each (pairs,) fp32."""
        scores, batch, _ = self._of_tokens(rows)
        ends = scores.gather(1, (batch.lengths - 1).unsqueeze(1)).squeeze(1)
        return ends[: len(rows)], ends[len(rows) :]

    def ranked_by_token(self, rows: Sequence[int]) -> torch.Tensor:
        """DeepSpeed-Chat's loss, summed over these pairs."""
        scores, batch, sides = self._of_tokens(rows)
        pairs = list(zip(sides[: len(rows)], sides[len(rows) :], strict=True))
        starts = torch.tensor([divergence(*pair) for pair in pairs], device=self.device)
        ends = batch.lengths.view(2, len(rows)).amax(dim=0)
        return summed_token_ranking_loss(scores[: len(rows)], scores[len(rows) :], starts, ends)

    def _of_tokens(self, rows: Sequence[int]) -> tuple[torch.Tensor, Padded, list[np.ndarray]]:
        pairs = [self.rows[row] for row in rows]
        sides = [np.concatenate([prompt, chosen]) for prompt, chosen, _ in pairs]
        sides += [np.concatenate([prompt, rejected]) for prompt, _, rejected in pairs]
        batch = pad_right(sides, self.filler, self.device)
        return self.scorer(batch.ids, batch.mask), batch, sides


def divergence(one: np.ndarray, other: np.ndarray) -> int:
    """First position at which two rows differ; the last one where they never do."""
    shared = min(len(one), len(other))
    apart = np.flatnonzero(one[:shared] != other[:shared])
    if len(apart):
        return int(apart[0])
    return shared if len(one) != len(other) else shared - 1
