"""Direct preference optimisation: preferences without a reward model of their own (Rafailov et al. 2023).

The reward of a response is β · (log π − log π_ref), summed over its tokens; the loss is that of the
reward model, of these rewards. With IPO (Azar et al. 2023) it is a mean over the tokens, and the loss
draws the difference of both sides to a fixed distance.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import torch
from transformers import PreTrainedModel, PreTrainedTokenizerBase

from ..common.fitting import Setting, fit
from ..common.job import Job, run_stage
from ..common.logprobfiles import read_log_probs
from ..common.losses import summed_ipo_loss, summed_preference_loss
from ..common.models import load_causal_lm
from ..common.modules import Policy
from ..common.pairs import PairLogProbs, judge_pairs, preference_figures
from ..common.training import Objective
from .kind import KIND, DpoParams


class ImplicitRewards:
    """Rewards of both sides of pairs.

    Args:
        log_probs: of the policy.
        reference: (rows, 2) those of the reference.
        params: ``beta`` and ``loss``.
    """

    def __init__(self, log_probs: PairLogProbs, reference: np.ndarray, params: DpoParams) -> None:
        self.log_probs, self.reference = log_probs, torch.from_numpy(reference)
        self.beta, self.per_token = params.beta, params.loss == "ipo"

    def __call__(self, rows: Sequence[int]) -> tuple[torch.Tensor, torch.Tensor]:
        """(chosen, rejected), each (pairs,) fp32."""
        device = self.log_probs.device
        moved = self.log_probs(rows) - self.reference[list(rows)].to(device)
        if self.per_token:
            sides = [[len(side) for side in self.log_probs.rows[row][1:]] for row in rows]
            moved = moved / torch.tensor(sides, device=device)
        chosen, rejected = (self.beta * moved).unbind(dim=1)
        return chosen, rejected


def main(job: Job[DpoParams]) -> None:
    """Train, evaluate, save."""
    params, reference = job.params, job.inputs["reference"].path

    def load(tokenizer: PreTrainedTokenizerBase) -> PreTrainedModel:
        config = job.deepspeed["train"]
        return load_causal_lm(
            job.inputs["model"], dtype=params.dtype, deepspeed_config=config, dropout=params.dropout
        )

    def loss(chosen: torch.Tensor, rejected: torch.Tensor) -> torch.Tensor:
        if params.loss == "ipo":
            return summed_ipo_loss(chosen, rejected, params.beta)
        return summed_preference_loss(chosen, rejected, label_smoothing=params.label_smoothing)

    def objective(setting: Setting) -> Objective:
        learnt, measured = (
            ImplicitRewards(
                PairLogProbs(setting.engine, rows, setting.filler, setting.ranks.device),
                read_log_probs(reference, split, rows),
                params,
            )
            for split, rows in (("train", setting.train), ("eval", setting.held_out))
        )
        return Objective(
            weigh=lambda _: 1.0,
            loss=lambda rows: loss(*learnt(rows)),
            evaluate=lambda: preference_figures(judge_pairs(measured, setting), loss, "reward"),
        )

    fit(job, load=load, wrap=Policy, objective=objective)


if __name__ == "__main__":
    run_stage(KIND, DpoParams, main)
