"""Log-probabilities that a frozen model gives to both sides of preferences, for ``dpo``.

They depend on the model and the data alone, so they are made once and serve every ``beta``, learning
rate and seed that is tried.
"""

from __future__ import annotations

import numpy as np
import torch

from ..common.engines import frozen_module
from ..common.job import InputPath, Job, StageError, run_stage
from ..common.logprobfiles import write_log_probs
from ..common.metrics import Metrics
from ..common.models import load_causal_lm
from ..common.modules import Policy
from ..common.pairs import PairLogProbs
from ..common.ranks import Ranks, start_ranks
from ..common.rows import by_length
from ..common.tokenfiles import TokenFile
from ..common.tokenizers import filler_id, load_tokenizer
from ..common.training import in_step
from .kind import KIND, ReferenceParams

SPLITS = ("train", "eval")


@torch.no_grad()
def of_all_rows(log_probs: PairLogProbs, job: Job[ReferenceParams], ranks: Ranks) -> np.ndarray:
    """(rows, 2) float32 of all rows, on every rank."""
    rows = log_probs.rows
    found = np.zeros((len(rows), 2), dtype=np.float32)
    if not len(rows):
        return found
    mine = by_length(list(ranks.share(len(rows))), rows.lengths(), job.params.micro_batch_size)
    parts = []
    for places, counts in in_step(mine, ranks, job.beat):
        values = log_probs(places)
        if counts:
            parts.append((places, values.float().cpu().numpy()))
    for places, values in (part for rank in ranks.gather(parts) for part in rank):  # type: ignore[attr-defined]
        found[places] = values
    return found


def main(job: Job[ReferenceParams]) -> None:
    """Read, run, write."""
    params, config = job.params, job.deepspeed["reference"]
    ranks = start_ranks(threads=params.threads, seed=params.seed)
    data = job.inputs["data"].path
    filler = filler_id(load_tokenizer(InputPath(data / "tokenizer")))
    model = load_causal_lm(job.inputs["model"], dtype=params.dtype, deepspeed_config=config)
    policy = frozen_module(Policy(model), config, ranks.device)
    rows = {split: TokenFile(data, split) for split in SPLITS}
    found = {
        split: of_all_rows(PairLogProbs(policy, rows[split], filler, ranks.device), job, ranks)
        for split in SPLITS
    }
    for split, values in found.items():
        require_finite(values, split)
    if ranks.first:
        write_log_probs(job.outputs["log_probs"], found, rows)
        figures = {
            "pairs": float(sum(map(len, found.values()))),
            "eval_chosen_log_prob": _mean(found["eval"][:, 0]),
            "eval_rejected_log_prob": _mean(found["eval"][:, 1]),
        }
        Metrics(job.paths["metrics"]).write(step=1, total=1, phase="eval", **figures)
        job.write_manifest(step=1, total=1, summary=figures)
    ranks.leave()


def require_finite(values: np.ndarray, split: str) -> None:
    """Refuse log-probabilities that are no numbers: ``dpo`` would blame its learning rate.

    Raises:
        StageError: there are such.
    """
    bad = int((~np.isfinite(values)).any(axis=1).sum())
    if bad:
        raise StageError(
            f"the model gives {bad} of {len(values)} {split} pairs a log-probability that is no number",
            "use `dtype: fp32` or `bf16`, and see whether the model's weights are finite",
        )


def _mean(values: np.ndarray) -> float:
    return float(values.mean(dtype=np.float64)) if len(values) else 0.0


if __name__ == "__main__":
    run_stage(KIND, ReferenceParams, main)
