"""Bradley-Terry reward model on preference pairs.

Where this departs from DeepSpeed-Chat's step 2:

* a response's score is read at its last real token, found by its length, never by searching for pad;
* the loss compares those two scores only (upstream ranks every token from the first difference to the
  longer end, padding included);
* saved as a sequence classifier with one label, which other tools load.
"""

from __future__ import annotations

from collections.abc import Sequence
from functools import partial

import numpy as np
import torch
from transformers import PreTrainedModel, PreTrainedTokenizerBase

from ..common.fitting import Setting, fit
from ..common.job import Job, run_stage
from ..common.losses import summed_preference_loss
from ..common.models import load_reward_model
from ..common.modules import Scorer
from ..common.pairs import preference_figures
from ..common.rows import pad_right
from ..common.tokenfiles import TokenFile
from ..common.tokenizers import filler_id
from ..common.training import Objective
from .kind import KIND, RewardParams


class PairScores:
    """Scores of both sides of pairs, chosen and rejected in one forward."""

    def __init__(self, scorer: torch.nn.Module, rows: TokenFile, filler: int, device: torch.device) -> None:
        self.scorer, self.rows, self.filler, self.device = scorer, rows, filler, device

    def __call__(self, rows: Sequence[int]) -> tuple[torch.Tensor, torch.Tensor]:
        """(chosen, rejected) scores of these pairs, each (pairs,) fp32."""
        pairs = [self.rows[row] for row in rows]
        sides = [np.concatenate([prompt, chosen]) for prompt, chosen, _ in pairs]
        sides += [np.concatenate([prompt, rejected]) for prompt, _, rejected in pairs]
        batch = pad_right(sides, self.filler, self.device)
        scores = self.scorer(batch.ids, batch.mask).gather(1, (batch.lengths - 1).unsqueeze(1)).squeeze(1)
        return scores[: len(pairs)], scores[len(pairs) :]


def main(job: Job[RewardParams]) -> None:
    """Train, evaluate, save."""
    params = job.params

    def load(tokenizer: PreTrainedTokenizerBase) -> PreTrainedModel:
        config = job.deepspeed["train"]
        model = load_reward_model(
            job.inputs["model"],
            dtype=params.dtype,
            deepspeed_config=config,
            dropout=params.dropout,
            new_head=True,
            seed=params.seed,
        )
        model.config.pad_token_id = filler_id(tokenizer)
        return model

    loss = partial(summed_preference_loss, centering=params.centering)

    def objective(setting: Setting) -> Objective:
        learnt, measured = (
            PairScores(setting.engine, rows, setting.filler, setting.ranks.device)
            for rows in (setting.train, setting.held_out)
        )
        return Objective(
            weigh=lambda _: 1.0,
            loss=lambda rows: loss(*learnt(rows)),
            evaluate=lambda: preference_figures(measured, loss, setting, "score"),
        )

    fit(job, load=load, wrap=Scorer, objective=objective)


if __name__ == "__main__":
    run_stage(KIND, RewardParams, main)
