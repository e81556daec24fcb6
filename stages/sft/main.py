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
        self.whole = loss_on == "all"

    def tokens(self, row: int) -> int:
        """Tokens of a row that are learnt; the first token of all has nothing to be predicted from."""
        prompt, response = self.rows[row]
        return len(prompt) + len(response) - 1 if self.whole else len(response)

    def summed(self, rows: Sequence[int]) -> torch.Tensor:
        """Summed loss of these rows, run as one micro-batch."""
        pairs = [self.rows[row] for row in rows]
        batch = pad_right([np.concatenate(pair) for pair in pairs], self.filler, self.device)
        starts = [1 if self.whole else len(prompt) for prompt, _ in pairs]
        first = torch.tensor(starts, device=self.device)
        width = int((batch.lengths - first).max())
        select = response_positions(first, width, batch.ids.shape[1])
        logits, _ = self.policy(batch.ids, batch.mask, row_positions(batch.mask), select=select)
        targets = batch.ids.gather(1, (select + 1).clamp(max=batch.ids.shape[1] - 1))
        counted = torch.arange(width, device=self.device)[None, :] < (batch.lengths - first)[:, None]
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
