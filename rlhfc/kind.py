"""What a stage kind is made of: parameters with an impact each, inputs, outputs.

This is the one module that code in ``stages/`` imports from ``rlhfc``. It must stay free of
heavy imports: ``rlhfc plan`` loads every kind that a pipeline names.
"""

from __future__ import annotations

import re
from dataclasses import dataclass, field
from typing import Annotated, Any, ClassVar, Literal

from pydantic import BaseModel, BeforeValidator, ConfigDict, Field, model_validator

Impact = Literal["semantic", "numeric", "runtime", "label"]
REFERENCE = re.compile(r"^[A-Za-z][A-Za-z0-9_-]*(@[A-Za-z0-9._+=,-]+)?\.[a-z][a-z0-9_]*$")


SECRET = re.compile(r"\$\{env:([A-Za-z_][A-Za-z0-9_-]*)\}")
"""An environment variable in a text, whose value nothing but the stage's process ever sees."""


def _impact(impact: Impact, default: Any, options: dict[str, Any]) -> Any:
    return Field(default, json_schema_extra={"impact": impact}, **options)


def semantic(default: Any = ..., **options: Any) -> Any:
    """A leaf that changes the result: another value means another action key."""
    return _impact("semantic", default, options)


def numeric(default: Any = ..., **options: Any) -> Any:
    """A leaf with the same mathematics and other rounding: recorded, no rerun."""
    return _impact("numeric", default, options)


def runtime(default: Any = ..., **options: Any) -> Any:
    """A leaf that cannot reach the result: logging, cadence, retries."""
    return _impact("runtime", default, options)


def label(default: Any = ..., **options: Any) -> Any:
    """A leaf that only people read."""
    return _impact("label", default, options)


class SpecModel(BaseModel):
    """Base of every model that a spec is parsed into: strict, frozen, no unknown field."""

    model_config = ConfigDict(extra="forbid", frozen=True, strict=True)


def _from_text(value: Any) -> Any:
    return {"ref": value} if isinstance(value, str) else value


class InputModel(SpecModel):
    """Where an input comes from: exactly one of ``ref``, ``path``, ``hub``.

    In YAML a plain string is a reference ``stage.port``; a mapping is a source.
    """

    ref: str | None = Field(None, description="output of another stage, `stage.port`")
    path: str | None = Field(None, description="local file or folder, relative to the file that says so")
    hub: str | None = Field(None, description="hub id, `owner/name`")
    revision: str | None = Field(None, description="hub commit (40 hex digits), tag or branch")
    file: str | None = Field(None, description="one file inside it, for example a GGUF file")

    @model_validator(mode="after")
    def _one_origin(self) -> InputModel:
        named = [name for name in ("ref", "path", "hub") if getattr(self, name) is not None]
        if len(named) != 1:
            raise ValueError("name exactly one of a reference `stage.port`, `path:` or `hub:`")
        if self.ref is not None and not REFERENCE.fullmatch(self.ref):
            raise ValueError(f"`{self.ref}` is not a reference: write `stage.port`, or `path:` or `hub:`")
        if self.revision is not None and self.hub is None:
            raise ValueError("`revision` goes with `hub:`")
        return self


Input = Annotated[InputModel, BeforeValidator(_from_text)]


class StageParams(SpecModel):
    """Fields that every stage has. Kinds add their own."""

    # First, so that a plan tells it before the leaves that it brings into the key.
    numerics: Literal["recorded", "strict"] = semantic(
        "recorded", description="`strict`: numeric leaves enter the key as well, so that a change reruns"
    )
    device: Literal["auto", "cpu", "gpu"] = numeric(
        "auto", description="`auto` takes GPUs where there are any, else the CPU"
    )
    ranks: int = numeric(1, ge=1, description="data-parallel processes; on GPUs one each")
    threads: int = numeric(1, ge=1, description="CPU threads of each rank")
    seed: int = semantic(1234, ge=0, lt=2**32, description="seed of every random choice")
    log_every: int = runtime(10, ge=1, description="steps between two metric lines")
    retries: int = runtime(
        3, ge=0, description="further launches in a run after faults of the machine, from the checkpoint"
    )
    retry_delay: float = runtime(
        10.0, ge=0, description="seconds before the first of them; doubled with each, and spread by chance"
    )
    timeout: float | None = runtime(
        None, gt=0, description="seconds that one launch may take; then it is to save a checkpoint and stop"
    )
    no_progress_timeout: float | None = runtime(
        1800.0, gt=0, description="seconds without a sign of life after which it is launched again"
    )
    environment: dict[str, str] = runtime(
        default_factory=dict, description="variables that its launch gets; secrets as `${env:NAME}`"
    )
    description: str = label("", description="free text, shown in the report")
    frozen: bool = label(False, description="its last result in this pipeline stands, whatever changed")
    pin: str | None = label(
        None,
        pattern=r"^b3:[0-9a-f]{8,64}$",
        description="the result under this key, or under the only one that begins so, stands",
    )
    ignore_changes: list[str] = label(
        default_factory=list,
        description="leaves and inputs of this stage of which a change alone reruns nothing; "
        "`*` stands for any step",
    )


@dataclass(frozen=True)
class Kind:
    """A stage kind: what it is called, what it reads and makes, what decides its numbers.

    Attributes:
        name: the value of ``kind:`` in a spec.
        abi: bumped by hand when the meaning of the kind's parameters or outputs changes.
        params: model of the stage's fields.
        inputs: type that each input address accepts; ``sources.*.data`` matches any index.
        outputs: type of each output port.
        libraries: distributions whose major.minor enter the key.
        engines: names of the models that get a DeepSpeed config. A name maps to the dotted path
            of its :class:`EngineParams` ("" for the parameters themselves, ``engines.actor`` for
            the ``actor`` settings exposed by the stage behind the input ``engines``).
        exposes_settings: whether consumers may read this kind's parameters under ``settings``.
        reads_settings: input address to the fields (dotted paths) that the kind reads of the settings
            exposed behind it. A stage is given exactly these, and its key knows no others.
        resumable: whether attempts leave checkpoints.
        columns: input pattern to the fields that name its columns (``sources.*.data`` to
            ``sources.*.columns``), so that a column that is not there is told before anything runs.
        one_vocabulary: inputs whose tokenizers must agree; the outputs have the same.
    """

    name: str
    abi: int
    params: type[StageParams]
    inputs: dict[str, str]
    outputs: dict[str, str]
    libraries: tuple[str, ...] = ()
    engines: dict[str, str] = field(default_factory=dict)
    exposes_settings: bool = False
    reads_settings: dict[str, tuple[str, ...]] = field(default_factory=dict)
    resumable: bool = False
    columns: dict[str, str] = field(default_factory=dict)
    one_vocabulary: tuple[str, ...] = ()


class LoraParams(SpecModel):
    """Low-rank adapters (Hu et al. 2021), trained by peft, merged when the stage saves."""

    rank: int = semantic(ge=1, description="rank of the update")
    alpha: float | None = semantic(None, gt=0, description="scale; default 2 × rank")
    dropout: float = semantic(0.0, ge=0, lt=1, description="of the adapters' input while training")
    targets: list[str] | Literal["all-linear"] = semantic(
        "all-linear", description="linear layers with adapters, by last or full name; heads excepted"
    )


class ModelParams(SpecModel):
    """How one model lives on the devices, trained or not."""

    dtype: Literal["fp32", "bf16", "fp16"] = semantic("bf16", description="type of weights and computation")
    deepspeed: dict[str, Any] = semantic(
        default_factory=dict, description="merged into the DeepSpeed config as it is"
    )


class EngineParams(ModelParams):
    """A model that is trained: precision, ZeRO, offload, adapters."""

    zero_stage: Literal[0, 1, 2, 3] = numeric(0, description="ZeRO stage (Rajbhandari et al. 2020)")
    offload: Literal["none", "optimizer", "all"] = numeric(
        "none", description="to CPU memory: nothing, optimiser state, or parameters as well (ZeRO 3)"
    )
    gradient_checkpointing: bool = numeric(
        False, description="activations are computed again in the backward pass instead of kept"
    )
    lora: LoraParams | None = semantic(
        None, description="train low-rank adapters (and score heads) only; none: all weights"
    )
    dropout: float | None = semantic(None, ge=0, lt=1, description="overrides the model's own")


class FrozenEngineParams(ModelParams):
    """A model that is only read: there is no optimiser whose state ZeRO 1 and 2 could shard."""

    zero_stage: Literal[0, 3] = numeric(0, description="3: parameters are sharded over the ranks")
    offload: Literal["none", "all"] = numeric("none", description="`all`: parameters to CPU memory (ZeRO 3)")

    lora: ClassVar[None] = None
    dropout: ClassVar[None] = None


class BestParams(SpecModel):
    """Leave the weights that did best on the held-out rows, in the place of the last."""

    every: int = semantic(ge=1, description="optimiser steps between the evaluations that decide")
    by: Literal["eval_loss", "eval_accuracy"] = semantic(
        "eval_loss", description="what decides: the lowest loss, or (reward, dpo) the highest accuracy"
    )
    patience: int | None = semantic(
        None, ge=1, description="stop after so many of them in a row without a better one"
    )


class TrainParams(StageParams, EngineParams):
    """Fields that sft, reward and dpo share: batch, optimiser, schedule, cadence."""

    epochs: int = semantic(1, ge=1, description="passes over the training rows")
    max_steps: int | None = semantic(None, ge=1, description="stop after this many optimiser steps")
    global_batch_size: int = semantic(ge=1, description="rows an optimiser step sees, over all ranks")
    micro_batch_size: int | None = numeric(
        None, ge=1, description="rows a forward sees on one rank; default: the largest divisor up to 8"
    )
    learning_rate: float = semantic(gt=0, description="peak of the schedule")
    weight_decay: float = semantic(0.0, ge=0, description="of AdamW; not for biases and norms")
    betas: list[float] = semantic([0.9, 0.95], min_length=2, max_length=2, description="of AdamW")
    schedule: Literal[
        "cosine", "linear", "constant", "constant_with_warmup", "cosine_with_restarts", "polynomial"
    ] = semantic("cosine", description="of the learning rate, over all optimiser steps")
    warmup_steps: int = semantic(0, ge=0, description="optimiser steps of linear warm-up")
    gradient_clipping: float = semantic(1.0, ge=0, description="bound of the gradient's L2 norm; 0 for none")
    eval_every: int | None = runtime(None, ge=1, description="optimiser steps between evaluations")
    best: BestParams | None = semantic(
        None, description="leave the weights that did best on the held-out rows; none: the last"
    )
    checkpoint_every: int = runtime(200, ge=1, description="optimiser steps between checkpoints")
    keep_checkpoints: int = runtime(2, ge=1, description="newest complete checkpoints that stay")
