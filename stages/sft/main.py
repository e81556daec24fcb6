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

from ..common.engines import trainable_engine
from ..common.job import InputPath, Job, run_stage
from ..common.losses import summed_cross_entropy
from ..common.models import add_lora, load_causal_lm, save_model
from ..common.modules import Policy, response_positions, row_positions
from ..common.ranks import Ranks, start_ranks
from ..common.rows import by_length, pad_right
from ..common.tokenfiles import TokenFile
from ..common.tokenizers import filler_id, load_tokenizer, save_tokenizer
from ..common.training import Objective, Trainer, in_step, optimisation, plan_steps
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


def perplexity(loss: DemonstrationLoss, ranks: Ranks, micro: int) -> dict[str, float]:
    """Return exp of the mean loss over all evaluation tokens."""
    totals = torch.zeros(2, dtype=torch.float64, device=ranks.device)
    mine = list(ranks.share(len(loss.rows)))
    batches = by_length(mine, loss.rows.lengths(), micro)
    for rows, counts in in_step(batches, ranks):
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
    params, data = job.params, job.inputs["data"].path
    ranks = start_ranks(threads=params.threads, seed=params.seed)
    tokenizer = load_tokenizer(InputPath(data / "tokenizer"))
    train, held_out = TokenFile(data, "train"), TokenFile(data, "eval")
    assert job.batch is not None
    total = plan_steps(params, job.batch, len(train))
    config = job.deepspeed["train"]
    model = load_causal_lm(
        job.inputs["model"], dtype=params.dtype, deepspeed_config=config, dropout=params.dropout
    )
    if params.lora is not None:
        add_lora(model, params.lora)
    if params.gradient_checkpointing:
        model.gradient_checkpointing_enable(gradient_checkpointing_kwargs={"use_reentrant": False})
    engine = trainable_engine(Policy(model), config, optimisation(params, total))
    filler = filler_id(tokenizer)
    learnt = DemonstrationLoss(engine, train, params.loss_on, filler, ranks.device)
    measured = DemonstrationLoss(engine, held_out, params.loss_on, filler, ranks.device)
    micro = job.batch.micro
    objective = Objective(learnt.tokens, learnt.summed, lambda: perplexity(measured, ranks, micro))
    figures = Trainer(job, ranks, engine, train, objective).run()
    save_model(model, job.outputs["model"], first=ranks.first)
    if ranks.first:
        save_tokenizer(tokenizer, job.outputs["model"])
        job.write_manifest(step=total, total=total, summary=figures)
    ranks.barrier()


if __name__ == "__main__":
    run_stage(KIND, SftParams, main)
