"""The start of PPO's four models, and the checks that turn a failure at hour two into one at minute two.

It loads the four as PPO will, answers a few prompts, and refuses to go on unless tokenizers agree, the
reference equals the actor (KL 0 before any update), and one trial update of actor and critic gives
finite numbers. What it writes depends on the models and prompts alone: the two models, once each, and
``engines.json`` with the mean and deviation of the reward model's scores.
"""

from __future__ import annotations

import os
import resource
import shutil
import time
from pathlib import Path

import numpy as np
import torch
from deepspeed.accelerator import get_accelerator

from rlhfc.kind import EngineParams, FrozenEngineParams

from ..common.engines import Optimisation
from ..common.experience import Row, collect
from ..common.four_models import ROLES, FourModels, load_four
from ..common.job import InputPath, Job, StageError, run_stage, write_json
from ..common.metrics import Metrics
from ..common.ranks import Ranks, start_ranks
from ..common.rollout import Decoding
from ..common.rows import RowOrder
from ..common.tokenfiles import TokenFile
from ..common.tokenizers import filler_id, load_tokenizer, stop_ids, vocabulary_digest
from ..common.update import Rules, Updater, aim
from .kind import KIND, EngineInitParams

FORMAT = 1
# Actor and reference run the same weights through the same kernels; sharding may change the last bits.
SAME_POLICY = {"fp32": 1e-4, "bf16": 5e-2, "fp16": 1e-2}


def check_tokenizers(job: Job[EngineInitParams]) -> None:
    """Refuse models whose token ids mean different texts.

    Raises:
        StageError: the vocabularies differ, or a model is a single file.
    """
    for address in ("actor_model", "reward_model"):
        if job.inputs[address].file is not None:
            raise StageError(
                f"{address} is the single file `{job.inputs[address].file}`",
                "give the model that an `sft` or `reward` stage made, or a folder",
            )
    digests = {
        address: vocabulary_digest(load_tokenizer(job.inputs[address]))
        for address in ("actor_model", "reward_model")
    }
    if len(set(digests.values())) > 1:
        raise StageError(
            "actor_model and reward_model have different tokenizers, "
            "so the critic cannot read the actor's tokens",
            "train both from data of one `data_split` stage, or start both from the same model family",
        )


def check_same_policy(rows: list[Row], dtype: str) -> float:
    """Largest |log π − log π_ref| over the trial's tokens; it must be 0 up to rounding.

    Raises:
        StageError: actor and reference differ before any update.
    """
    gap = max(float(np.abs(row.log_probs - row.reference).max()) for row in rows)
    if gap > SAME_POLICY[dtype]:
        raise StageError(
            f"actor and reference differ by {gap:.3g} nats before any update",
            "give actor and reference the same dtype, or report this with the attempt's config.json",
        )
    return gap


def trial_update(
    job: Job[EngineInitParams], models: FourModels, rows: list[Row], ranks: Ranks, filler: int
) -> dict[str, float]:
    """One optimiser step of actor and critic on the trial's responses; the models are thrown away after."""
    per_rank = len(rows) // ranks.world
    models.training()
    micro = job.params.micro_batch_size
    updater = Updater(models, Rules(), ranks, micro=micro, filler=filler, beat=job.beat)
    return updater.minibatch(rows, aim(rows, Rules()), list(range(per_rank * ranks.world)))


def peak_bytes() -> float:
    """Most memory this rank has held: on the device, or of the process on the CPU."""
    accelerator = get_accelerator()
    if accelerator.device_name() == "cpu":
        return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024.0
    return float(accelerator.max_memory_allocated())


def link_model(source: Path, target: Path) -> None:
    """Make ``target`` a copy of ``source`` that shares its bytes where the file system can."""
    for path in sorted(source.rglob("*")):
        if path.is_file():
            place = target / path.relative_to(source)
            place.parent.mkdir(parents=True, exist_ok=True)
            try:
                os.link(path, place)
            except OSError:
                shutil.copyfile(path, place)


def load_models(job: Job[EngineInitParams], ranks: Ranks) -> FourModels:
    """The four as PPO will load them, with optimisers that hardly move."""
    settings: dict[str, EngineParams | FrozenEngineParams] = {
        role: getattr(job.params, role) for role in ROLES
    }
    idle = Optimisation(1e-6, 0.0, (0.9, 0.95), "constant", 0, 1)
    return load_four(
        job.inputs["actor_model"],
        job.inputs["reward_model"],
        settings=settings,
        deepspeed=job.deepspeed,
        optimisation={"actor": idle, "critic": idle},
        ranks=ranks,
        seed=job.params.seed,
    )


def trial_rollout(job: Job[EngineInitParams], models: FourModels, ranks: Ranks) -> tuple[list[Row], int]:
    """Answers to the first prompts of PPO's own order, and the filler id.

    Raises:
        StageError: there are too few prompts.
    """
    params = job.params
    prompts = TokenFile(job.inputs["prompts"].path, "train")
    count = min(params.trial_prompts, len(prompts))
    if count < max(2, ranks.world):
        raise StageError(
            f"{len(prompts)} prompts are too few for a trial on {ranks.world} ranks",
            "give the prompts part of `data_split` more rows",
        )
    tokenizer = load_tokenizer(InputPath(job.inputs["actor_model"].path))
    filler, stops = filler_id(tokenizer), frozenset(stop_ids(tokenizer, params.stop_token_ids))
    rows = collect(
        models,
        [prompts[row][0] for row in RowOrder(len(prompts), params.seed).batch(0, count)],
        range(count),
        Decoding(params.max_response_tokens, 1.0, stops, filler, params.seed),
        ranks=ranks,
        generate_at_once=params.micro_batch_size,
        score_at_once=params.micro_batch_size,
        beat=job.beat,
    )
    return rows, filler


def main(job: Job[EngineInitParams]) -> None:
    """Check, measure, write."""
    params, clock = job.params, time.monotonic
    ranks = start_ranks(threads=params.threads, seed=params.seed)
    check_tokenizers(job)
    started = clock()
    models = load_models(job, ranks)
    loaded = clock()
    rows, filler = trial_rollout(job, models, ranks)
    answered = clock()
    gap = check_same_policy(rows, params.actor.dtype)
    update = trial_update(job, models, rows, ranks, filler)
    updated = clock()
    scores = torch.tensor([row.score for row in rows], dtype=torch.float64)
    summary = {
        "score_mean": float(scores.mean()),
        "score_deviation": float(scores.std()),
        "policy_gap": gap,
        "response_length": float(np.mean([len(row.response) for row in rows])),
        "peak_bytes": max(float(peak) for peak in ranks.gather(peak_bytes())),  # type: ignore[arg-type]
        "load_seconds": loaded - started,
        "rollout_seconds": answered - loaded,
        "update_seconds": updated - answered,
    }
    if ranks.first:
        write_engines(job, summary)
        Metrics(job.paths["metrics"]).write(step=1, total=1, phase="trial", **summary, **update)
        job.write_manifest(step=1, total=1, summary=summary)
    ranks.leave()


def write_engines(job: Job[EngineInitParams], summary: dict[str, float]) -> None:
    """Write the two models and ``engines.json``; nothing in it depends on the machine's speed or memory.

    Raises:
        StageError: all scores are equal, so they cannot be normalised.
    """
    normalise = job.params.normalise_reward
    if normalise and summary["score_deviation"] < 1e-6:
        raise StageError(
            "the reward model gives every trial response the same score",
            "look at its eval_accuracy, or set normalise_reward to false",
        )
    folder = job.outputs["engines"]
    link_model(job.inputs["actor_model"].path, folder / "actor")
    link_model(job.inputs["reward_model"].path, folder / "reward")
    record = {
        "format": FORMAT,
        "roles": {"actor": "actor", "reference": "actor", "critic": "reward", "reward": "reward"},
        "score_mean": summary["score_mean"] if normalise else 0.0,
        "score_deviation": summary["score_deviation"] if normalise else 1.0,
    }
    write_json(folder / "engines.json", record)


if __name__ == "__main__":
    run_stage(KIND, EngineInitParams, main)
