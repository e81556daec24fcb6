"""Combinations of precision, ZeRO stage and offload that cannot work."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any, Literal

from rlhfc.compile.action import stage_of
from rlhfc.errors import Diagnostic
from rlhfc.kind import EngineParams, FrozenEngineParams
from rlhfc.spec.model import Draft

AnyEngine = EngineParams | FrozenEngineParams
Device = Literal["auto", "cpu", "gpu"]
Fault = tuple[str, str, str]
"""Field, what is wrong with it, hint."""


def sharding_faults(engine: AnyEngine) -> Iterator[Fault]:
    """What is wrong with an engine on any device."""
    if engine.offload == "all" and engine.zero_stage != 3:
        yield (
            "offload",
            f"`all` needs ZeRO stage 3, and zero_stage is {engine.zero_stage}",
            "set `zero_stage: 3`",
        )
    if engine.offload == "optimizer" and engine.zero_stage == 0:
        yield "offload", "`optimizer` needs ZeRO, and zero_stage is 0", "set `zero_stage` to 1, 2 or 3"


def device_faults(engine: AnyEngine, device: Device) -> Iterator[Fault]:
    """What is wrong with an engine on this device; ``auto`` is nothing wrong until it is resolved."""
    if device != "cpu":
        return
    if engine.dtype == "fp16":
        yield "dtype", "`fp16` does not train on the CPU", "set `dtype` to `bf16` or `fp32`"
    if engine.offload != "none":
        yield "offload", "there is nothing to offload to on the CPU", "set `offload: none`"


def engine_faults(drafts: Mapping[str, Draft]) -> Iterator[Diagnostic]:
    """Faults of every engine that a stage sets up itself or takes from another."""
    for draft in drafts.values():
        if draft.loaded is None or draft.params is None:
            continue
        device: Device = getattr(draft.params, "device", "auto")
        for dotted in draft.loaded.kind.engines.values():
            owner, path = _owner(drafts, draft, dotted)
            engine = _engine(owner, path) if owner is not None else None
            if owner is None or engine is None:
                continue
            own = list(sharding_faults(engine)) if owner is draft else []
            for name, message, hint in [*own, *device_faults(engine, device)]:
                at = (*path, name)
                where = "" if owner is draft else f" (`{stage_of(draft.name)}` has `device: cpu`)"
                yield Diagnostic(f"{owner.address(at)}: {message}{where}", owner.locate(at), hint)


def _owner(drafts: Mapping[str, Draft], draft: Draft, dotted: str) -> tuple[Draft | None, tuple[str, ...]]:
    """The draft whose parameters hold the engine at ``dotted``, and the path there."""
    path = tuple(dotted.split(".")) if dotted else ()
    if path and path[0] in draft.inputs:
        upstream = (draft.inputs[path[0]].ref or "").rpartition(".")[0]
        return drafts.get(upstream), path[1:]
    return draft, path


def _engine(owner: Draft, path: tuple[str, ...]) -> AnyEngine | None:
    found: Any = owner.params
    for name in path:
        found = getattr(found, name, None)
    if not isinstance(found, EngineParams | FrozenEngineParams):
        return None
    fields = (EngineParams if isinstance(found, EngineParams) else FrozenEngineParams).model_fields
    # Of an engine with a wrong field nothing more is said until that is right.
    return found if all(hasattr(found, name) for name in fields) else None
