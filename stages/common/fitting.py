"""From data and a model to a trained model: what sft, reward and dpo have in common."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import torch
from torch import nn
from transformers import PreTrainedModel, PreTrainedTokenizerBase

from rlhfc.kind import TrainParams

from .engines import Optimisation, trainable_engine
from .job import InputPath, Job
from .models import prepare, save_model
from .ranks import Ranks, seed_everything, start_ranks
from .tokenfiles import TokenFile
from .tokenizers import filler_id, load_tokenizer, save_tokenizer
from .training import Objective, Trainer, plan_steps


@dataclass(frozen=True)
class Setting:
    """What an objective is made from.

    Attributes:
        engine: around the model that learns; calling it is a forward of the wrapper.
        train: rows to learn from.
        held_out: rows to evaluate on.
        filler: id at padded places.
        micro: rows of one forward.
        beat: shows that the stage gets on.
    """

    engine: Any
    train: TokenFile
    held_out: TokenFile
    filler: int
    micro: int
    ranks: Ranks
    beat: Callable[[], None]


def optimisation(params: TrainParams, total: int) -> Optimisation:
    """The optimiser's settings from the stage's parameters."""
    return Optimisation(
        learning_rate=params.learning_rate,
        weight_decay=params.weight_decay,
        betas=(params.betas[0], params.betas[1]),
        schedule=params.schedule,
        warmup_steps=params.warmup_steps,
        total_steps=total,
    )


def fit(
    job: Job[Any],
    *,
    load: Callable[[PreTrainedTokenizerBase], PreTrainedModel],
    wrap: Callable[[PreTrainedModel], nn.Module],
    objective: Callable[[Setting], Objective],
    describe: Callable[[Setting], None] | None = None,
) -> None:
    """Train on ``data`` and save into the port ``model``, with the tokenizer that came with the data.

    Args:
        job: of a stage whose parameters are :class:`~rlhfc.kind.TrainParams`.
        load: loads the model to start from.
        wrap: puts it into the module that the engine runs.
        objective: what to learn.
        describe: called on every rank at the end, when the model is saved, to write what it is worth.
    """
    params, data = job.params, job.inputs["data"].path
    assert job.batch is not None
    ranks = start_ranks(threads=params.threads, seed=params.seed)
    tokenizer = load_tokenizer(InputPath(data / "tokenizer"))
    train, held_out = TokenFile(data, "train"), TokenFile(data, "eval")
    total = plan_steps(params, job.batch, len(train))
    seed_everything(params.seed)  # adapters start equal on every rank
    model = load(tokenizer)
    prepare(model, params)
    seed_everything(params.seed + ranks.rank)  # dropout does not
    engine = trainable_engine(wrap(model), job.deepspeed["train"], optimisation(params, total))
    setting = Setting(engine, train, held_out, filler_id(tokenizer), job.batch.micro, ranks, job.beat)
    ended = Trainer(job, ranks, engine, train, objective(setting), held_out=len(held_out)).run()
    save_model(model, job.outputs["model"], first=ranks.first)
    if describe is not None:
        engine.eval()
        with torch.no_grad():
            describe(setting)
    if ranks.first:
        save_tokenizer(tokenizer, job.outputs["model"])
        job.write_manifest(step=ended.step, total=ended.step, summary=ended.figures)
    ranks.leave()
