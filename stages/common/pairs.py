"""Both sides of preference pairs: what a policy says of them, and how well something tells them apart."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch

from .fitting import Setting
from .modules import response_log_probs
from .rows import by_length, pad_pairs
from .statistics import calibration, calibration_error, correlation, wilson_interval
from .tokenfiles import TokenFile
from .training import in_step

Sides = Callable[[Sequence[int]], tuple[torch.Tensor, torch.Tensor]]
Loss = Callable[[torch.Tensor, torch.Tensor], torch.Tensor]


class PairLogProbs:
    """Σ log p of both responses of pairs, chosen and rejected in one forward.

    Args:
        policy: a :class:`~.modules.Policy`, or the engine around one.
        rows: preferences.
        filler: id at padded places.
        device: where the policy is.
    """

    def __init__(self, policy: torch.nn.Module, rows: TokenFile, filler: int, device: torch.device) -> None:
        self.policy, self.rows, self.filler, self.device = policy, rows, filler, device

    def __call__(self, rows: Sequence[int]) -> torch.Tensor:
        """(pairs, 2) fp32: of the chosen and of the rejected response."""
        pairs = [self.rows[row] for row in rows]
        prompts = [prompt for prompt, _, _ in pairs]
        responses = [chosen for _, chosen, _ in pairs] + [rejected for _, _, rejected in pairs]
        batch = pad_pairs(prompts * 2, responses, self.filler, self.device)
        tokens = response_log_probs(self.policy, batch.ids, batch.mask, batch.starts, batch.responses, 1.0)
        return (tokens * batch.response_mask).sum(dim=1).view(2, len(pairs)).T


@dataclass(frozen=True)
class Judged:
    """What something says of all evaluation pairs, on every rank.

    Attributes:
        values: (pairs, 2) float32 scores or rewards, of the chosen and the rejected response.
        lengths: (pairs, 2) tokens of each response.
    """

    values: np.ndarray
    lengths: np.ndarray

    @property
    def differences(self) -> np.ndarray:
        """(pairs,) chosen − rejected."""
        difference: np.ndarray = self.values[:, 0] - self.values[:, 1]
        return difference


def judge_pairs(sides: Sides, setting: Setting) -> Judged:
    """Ask for all evaluation pairs.

    Args:
        sides: scores or rewards of evaluation pairs by row number, each side (pairs,).
        setting: has the evaluation rows.
    """
    ranks, rows = setting.ranks, setting.held_out
    found = np.zeros((len(rows), 2), dtype=np.float32)
    mine = []
    batches = by_length(list(ranks.share(len(rows))), rows.lengths(), setting.micro)
    for places, counts in in_step(batches, ranks, setting.beat):
        both = torch.stack(sides(places), dim=1)
        if counts:
            mine.append((places, both.detach().float().cpu().numpy()))
    parts: list[Any] = ranks.gather(mine)
    for places, values in (each for part in parts for each in part):
        found[places] = values
    lengths = np.array([[len(side) for side in rows[row][1:]] for row in range(len(rows))])
    return Judged(found, lengths.reshape(-1, 2))


def preference_figures(judged: Judged, loss: Loss, name: str) -> dict[str, float]:
    """How well the sides are told apart: accuracy (a tie counts half), loss, calibration, means.

    Args:
        judged: what something says of the pairs.
        loss: summed over pairs, of both sides.
        name: of what that says, for the figures.
    """
    differences, count = judged.differences, max(len(judged.values), 1)
    better = float((differences > 0).sum() + 0.5 * (differences == 0).sum())
    low, high = wilson_interval(better, count)
    chosen, rejected = (torch.from_numpy(side) for side in np.ascontiguousarray(judged.values.T))
    return {
        "eval_accuracy": better / count,
        "eval_accuracy_low": low,
        "eval_accuracy_high": high,
        "eval_loss": float(loss(chosen, rejected)) / count,
        f"eval_chosen_{name}": float(chosen.double().sum()) / count,
        f"eval_rejected_{name}": float(rejected.double().sum()) / count,
        "eval_calibration_error": calibration_error(calibration(differences)),
        "eval_length_correlation": correlation(judged.values.ravel(), judged.lengths.ravel()),
        "eval_pairs": float(count),
    }
