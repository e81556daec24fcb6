"""Both sides of preference pairs: what a policy says of them, and how well something tells them apart."""

from __future__ import annotations

from collections.abc import Callable, Sequence

import torch

from .fitting import Setting
from .modules import response_log_probs
from .rows import by_length, pad_pairs
from .statistics import wilson_interval
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


def preference_figures(sides: Sides, loss: Loss, setting: Setting, name: str) -> dict[str, float]:
    """Share of evaluation pairs whose chosen side is higher (a tie counts half), loss and means.

    Args:
        sides: scores or rewards of evaluation pairs by row number, each side (pairs,).
        loss: summed over pairs, of both sides.
        setting: has the evaluation rows.
        name: of what ``sides`` gives, for the figures.
    """
    ranks, rows = setting.ranks, setting.held_out
    totals = torch.zeros(5, dtype=torch.float64, device=ranks.device)
    batches = by_length(list(ranks.share(len(rows))), rows.lengths(), setting.micro)
    for places, counts in in_step(batches, ranks, setting.beat):
        chosen, rejected = sides(places)
        if counts:
            better = (chosen > rejected).sum() + 0.5 * (chosen == rejected).sum()
            figures = [better, loss(chosen, rejected), chosen.sum(), rejected.sum(), len(chosen)]
            totals += torch.tensor([float(figure) for figure in figures], device=ranks.device)
    better, summed, chosen, rejected, count = ranks.sum(totals).tolist()
    count = max(count, 1.0)
    low, high = wilson_interval(better, count)
    return {
        "eval_accuracy": better / count,
        "eval_accuracy_low": low,
        "eval_accuracy_high": high,
        "eval_loss": summed / count,
        f"eval_chosen_{name}": chosen / count,
        f"eval_rejected_{name}": rejected / count,
        "eval_pairs": count,
    }
