"""One complete DeepSpeed config for each engine of a stage, from the spec alone."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Set
from dataclasses import dataclass
from functools import reduce
from typing import Any, Literal

from rlhfc.compile.action import Action, Batch
from rlhfc.errors import Diagnostic
from rlhfc.kind import EngineParams, FrozenEngineParams, Impact, StageParams

NEVER = 2**31 - 1
_ABSENT = object()
FROZEN_ENGINES = frozenset({"reference", "reward"})
"""Engines that are only read, by the name that a kind gives them."""

IMPACTS: Mapping[str, Impact] = {
    "train_batch_size": "numeric",
    "train_micro_batch_size_per_gpu": "numeric",
    "gradient_accumulation_steps": "numeric",
    "zero_optimization": "numeric",
    "bf16": "semantic",
    "fp16": "semantic",
    "gradient_clipping": "semantic",
    "zero_allow_untested_optimizer": "runtime",
    "steps_per_print": "runtime",
    "wall_clock_breakdown": "runtime",
}
"""Impact of each entry that we derive. Whatever stands in the user's own mapping is semantic."""

DERIVED: Mapping[str, str] = {
    "train_batch_size": "set `global_batch_size` (ppo: `minibatch_size`)",
    "train_micro_batch_size_per_gpu": "set `micro_batch_size`",
    "gradient_accumulation_steps": "set `micro_batch_size`",
    "gradient_clipping": "set `gradient_clipping` of the stage",
    "zero_optimization.stage": "set `zero_stage`",
    "zero_optimization.offload_optimizer": "set `offload`",
    "zero_optimization.offload_param": "set `offload`",
    "bf16.enabled": "set `dtype`",
    "fp16.enabled": "set `dtype`",
    "optimizer": "the stage makes its optimiser from the spec",
    "scheduler": "set `schedule`",
}
"""Entries that a spec has a field for, with that field: the user's mapping may not name them."""

HARMLESS = frozenset(
    {
        *("zero_optimization", "bf16", "fp16", "data_types", "torch_autocast", "activation_checkpointing"),
        *("communication_data_type", "seq_parallel_communication_data_type", "sequence_parallel_size"),
        *("prescale_gradients", "gradient_predivide_factor", "sparse_gradients", "disable_allgather"),
        *("steps_per_print", "wall_clock_breakdown", "memory_breakdown", "zero_allow_untested_optimizer"),
        *("zero_force_ds_cpu_optimizer", "dataloader_drop_last", "graph_harvesting", "aio"),
    }
)
"""Entries that any spec may have. Others make DeepSpeed import a module, write files or connect."""


@dataclass(frozen=True)
class Engine:
    """What one engine is made from."""

    name: str
    params: EngineParams | FrozenEngineParams
    device: Literal["cpu", "gpu"]
    batch: Batch
    gradient_clipping: float | None

    @property
    def frozen(self) -> bool:
        """Whether the model is only read."""
        return self.name in FROZEN_ENGINES


def engines_of(action: Action) -> dict[str, Engine]:
    """The engines that an action's kind names, each with its parameters wherever they are."""
    ranks = action.params.ranks
    alone = Batch(ranks, 1, 1, ranks)
    exposed = {address: source.params for address, source in action.settings.items()}
    clipping = getattr(action.params, "gradient_clipping", None)
    engines = {}
    for name, path in action.kind.engines.items():
        batch = alone if name in FROZEN_ENGINES or action.batch is None else action.batch
        params = engine_params(action.params, exposed, path)
        engines[name] = Engine(name, params, action.device, batch, clipping)
    return engines


def engine_params(
    params: StageParams, exposed: Mapping[str, StageParams], path: str
) -> EngineParams | FrozenEngineParams:
    """The engine parameters at a dotted path: of the stage itself or of settings exposed to it.

    Raises:
        TypeError: there are none, a mistake in ``kind.py``.
    """
    steps = path.split(".") if path else []
    start: Any = exposed[steps.pop(0)] if steps and steps[0] in exposed else params
    found = reduce(getattr, steps, start)
    if not isinstance(found, EngineParams | FrozenEngineParams):
        raise TypeError(f"no engine parameters at {path!r}")
    return found


def deepspeed_configs(action: Action) -> dict[str, dict[str, Any]]:
    """Engine to the config that ``deepspeed.initialize`` is given."""
    return {
        name: merged(derived_config(engine), engine.params.deepspeed)
        for name, engine in engines_of(action).items()
    }


def keyed_configs(action: Action, impacts: Set[Impact]) -> dict[str, dict[str, Any]]:
    """As :func:`deepspeed_configs`, without the derived entries of other impacts."""
    configs = {}
    for name, engine in engines_of(action).items():
        derived = {key: value for key, value in derived_config(engine).items() if IMPACTS[key] in impacts}
        configs[name] = merged(derived, engine.params.deepspeed)
    return configs


def derived_config(engine: Engine) -> dict[str, Any]:
    """The config as the spec's own fields give it."""
    config: dict[str, Any] = {
        "train_batch_size": engine.batch.whole,
        "train_micro_batch_size_per_gpu": engine.batch.micro,
        "gradient_accumulation_steps": engine.batch.accumulation,
        "zero_optimization": _zero(engine),
        "zero_allow_untested_optimizer": True,
        "steps_per_print": NEVER,
        "wall_clock_breakdown": False,
    }
    if engine.params.dtype == "bf16":
        config["bf16"] = {"enabled": True}
    elif engine.params.dtype == "fp16":
        config["fp16"] = {"enabled": True, "loss_scale_window": 100}
    if engine.gradient_clipping is not None and not engine.frozen:
        config["gradient_clipping"] = engine.gradient_clipping
    return config


def _zero(engine: Engine) -> dict[str, Any]:
    """ZeRO's block. On the CPU there is no second stream to overlap with and nothing to offload to."""
    on_gpu = engine.device == "gpu"
    stage = engine.params.zero_stage
    if stage == 0 and engine.params.dtype != "fp32" and not engine.frozen:
        # DeepSpeed's half-precision wrapper without ZeRO takes an Adam step on zero gradients when it is
        # built, and does not scale an fp16 loss. Stage 1 does neither, and on one rank shards nothing.
        stage = 1
    zero: dict[str, Any] = {"stage": stage}
    if not engine.frozen:
        zero |= {"overlap_comm": on_gpu, "contiguous_gradients": True}
    offload = engine.params.offload if on_gpu else "none"
    if offload != "none" and not engine.frozen:
        zero["offload_optimizer"] = {"device": "cpu", "pin_memory": True}
    if offload == "all":
        zero["offload_param"] = {"device": "cpu", "pin_memory": True}
    if stage == 3:
        zero |= {
            "stage3_param_persistence_threshold": 10_000,
            "stage3_max_live_parameters": 30_000_000,
            "stage3_prefetch_bucket_size": 30_000_000,
        }
        if not engine.frozen:
            zero["stage3_gather_16bit_weights_on_model_save"] = True
    return zero


def merged(base: Mapping[str, Any], over: Mapping[str, Any]) -> dict[str, Any]:
    """Deep merge: mappings are merged, everything else in ``over`` replaces what was there."""
    result = dict(base)
    for key, value in over.items():
        below = result.get(key)
        if isinstance(value, Mapping):
            result[key] = merged(below if isinstance(below, Mapping) else {}, value)
        else:
            result[key] = value
    return result


def refused_entries(given: Mapping[str, Any]) -> Iterator[tuple[str, Diagnostic]]:
    """Entries of a user's mapping that the spec has fields for, as dotted path and diagnostic."""
    for path, hint in DERIVED.items():
        below: Any = given
        for step in path.split("."):
            below = below.get(step, _ABSENT) if isinstance(below, Mapping) else _ABSENT
        if below is not _ABSENT:
            yield path, Diagnostic(f"`{path}` of the DeepSpeed config follows from the spec", hint=hint)
