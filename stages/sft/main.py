"""Supervised fine-tuning on demonstrations.

Where this departs from DeepSpeed-Chat's step 1:

* the loss covers response tokens, the end-of-sequence token included (upstream: the prompt too);
* it is a mean over the tokens of the global batch, however rows fall into micro-batches and ranks;
* rows are padded to the longest of their micro-batch, not to the limit;
* perplexity is that of all evaluation tokens together, not a mean of batches.
"""

from __future__ import annotations

import math
from collections.abc import Sequence

import numpy as np
import torch
from transformers import PreTrainedModel, PreTrainedTokenizerBase

from ..common.fitting import Setting, fit
from ..common.job import Job, run_stage
from ..common.losses import summed_cross_entropy
from ..common.models import load_causal_lm
from ..common.modules import Policy, response_positions, row_positions
from ..common.rows import by_length, pad_right
from ..common.tokenfiles import TokenFile
from ..common.training import Objective, in_step
from .kind import KIND, SftParams


class DemonstrationLoss:
    """Cross-entropy over the tokens that ``loss_on`` names."""

    def __init__(
        self, policy: torch.nn.Module, rows: TokenFile, loss_on: str, filler: int, device: torch.device
    ) -> None:
        self.policy, self.rows, self.filler, self.device = policy, rows, filler, device
        self.loss_on = loss_on

    def learnt(self, row: int) -> np.ndarray:
        """Which tokens of a row are learnt (bool); the first of all has nothing to be predicted from."""
        prompt, response, earlier = self.rows[row]
        found = np.zeros(len(prompt) + len(response), dtype=bool)
        found[len(prompt) if self.loss_on != "all" else 0 :] = True
        if self.loss_on == "answers":
            for start, end in earlier.reshape(-1, 2):
                found[start:end] = True
        found[0] = False
        return found

    def tokens(self, row: int) -> int:
        """Tokens of a row that are learnt."""
        return int(self.learnt(row).sum())

    def summed(self, rows: Sequence[int]) -> torch.Tensor:
        """Summed loss of these rows, run as one micro-batch."""
        batch = pad_right([np.concatenate(self.rows[row][:2]) for row in rows], self.filler, self.device)
        learnt = [self.learnt(row) for row in rows]
        starts = [int(found.argmax()) for found in learnt]
        counted = pad_right(
            [found[start:] for found, start in zip(learnt, starts, strict=True)], 0, self.device
        ).ids.bool()
        first = torch.tensor(starts, device=self.device)
        select = response_positions(first, counted.shape[1], batch.ids.shape[1])
        logits, _ = self.policy(batch.ids, batch.mask, row_positions(batch.mask), select=select)
        targets = batch.ids.gather(1, (select + 1).clamp(max=batch.ids.shape[1] - 1))
        return summed_cross_entropy(logits, targets, counted)


def perplexity(loss: DemonstrationLoss, setting: Setting) -> dict[str, float]:
    """Return exp of the mean loss over all evaluation tokens."""
    ranks = setting.ranks
    totals = torch.zeros(2, dtype=torch.float64, device=ranks.device)
    mine = list(ranks.share(len(loss.rows)))
    batches = by_length(mine, loss.rows.lengths(), setting.micro)
    for rows, counts in in_step(batches, ranks, setting.beat):
        summed = loss.summed(rows)
        if counts:
            totals += torch.tensor(
                [float(summed), sum(loss.tokens(row) for row in rows)], device=ranks.device
            )
    total, tokens = ranks.sum(totals).tolist()
    mean = total / max(tokens, 1)
    return {"eval_loss": mean, "eval_perplexity": math.exp(min(mean, 80.0)), "eval_tokens": tokens}


def main(job: Job[SftParams]) -> None:
    """Train, evaluate, save."""
    params = job.params

    def load(tokenizer: PreTrainedTokenizerBase) -> PreTrainedModel:
        config = job.deepspeed["train"]
        return load_causal_lm(
            job.inputs["model"], dtype=params.dtype, deepspeed_config=config, dropout=params.dropout
        )

    def objective(setting: Setting) -> Objective:
        learnt, measured = (
            DemonstrationLoss(setting.engine, rows, params.loss_on, setting.filler, setting.ranks.device)
            for rows in (setting.train, setting.held_out)
        )
        return Objective(learnt.tokens, learnt.summed, lambda: perplexity(measured, setting))

    fit(job, load=load, wrap=Policy, objective=objective)


if __name__ == "__main__":
    run_stage(KIND, SftParams, main)
