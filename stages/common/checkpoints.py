"""Training state on disk, complete or not there: what a resumed stage goes on from.

A checkpoint is a folder ``step-000120``. ``COMPLETE.json`` is written last and lists every file with
its size; without it, or when a file disagrees with it, the checkpoint does not count.
"""

from __future__ import annotations

import json
import random
import shutil
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import torch
from deepspeed.accelerator import get_accelerator

from .job import StageError, listing, sync, write_json
from .ranks import Ranks

FORMAT = 2
COMPLETE = "COMPLETE.json"


def _folder(root: Path, step: int) -> Path:
    return root / f"step-{step:06d}"


def complete_steps(root: Path) -> list[int]:
    """Steps of the complete checkpoints below ``root``, oldest first."""
    return sorted(
        int(folder.name.removeprefix("step-")) for folder in root.glob("step-*") if _is_complete(folder)
    )


def _is_complete(folder: Path) -> bool:
    try:
        record = json.loads((folder / COMPLETE).read_text(encoding="utf-8"))
        return record["format"] == FORMAT and all(
            (folder / file["path"]).stat().st_size == file["size"] for file in record["files"]
        )
    except (OSError, ValueError, KeyError, TypeError):
        return False


def save(
    root: Path,
    step: int,
    total: int,
    engines: Mapping[str, Any],
    state: Mapping[str, Any],
    ranks: Ranks,
    keep: int,
) -> None:
    """Save the engines, ``state`` (plain values, equal on all ranks) and every generator; all ranks call.

    Args:
        root: the action's checkpoint folder.
        step: optimiser (PPO: rollout) steps done.
        total: the last step.
        engines: DeepSpeed engines by name.
        state: values that the loop needs besides, for example running statistics.
        ranks: this process among its equals.
        keep: how many complete checkpoints stay.
    """
    folder = _folder(root, step)
    if ranks.first:
        shutil.rmtree(folder, ignore_errors=True)  # an earlier, incomplete try at the same step
        folder.mkdir(parents=True)
    ranks.barrier()
    for name, engine in engines.items():
        left_out = _has_frozen(engine)
        engine.save_checkpoint(str(folder), tag=name, save_latest=False, exclude_frozen_parameters=left_out)
    torch.save(_generators(), folder / f"rank-{ranks.rank}.pt")
    ranks.barrier()
    if ranks.first:
        write_json(folder / "state.json", dict(state))
        layout = {"ranks": ranks.world, "zero_stages": _zero_stages(engines)}
        _seal(folder, {"format": FORMAT, "step": step, "total": total, **layout})
        for old in complete_steps(root)[:-keep]:
            shutil.rmtree(_folder(root, old))
    ranks.barrier()


def _has_frozen(engine: Any) -> bool:
    """Whether the engine has weights that are not trained: they come from the input, not from here."""
    return any(not parameter.requires_grad for parameter in engine.module.parameters())


def _seal(folder: Path, record: Mapping[str, Any]) -> None:
    """Make everything in ``folder`` durable, then say in a file of its own that it is all there."""
    for path in folder.rglob("*"):
        sync(path)
    write_json(folder / COMPLETE, {**record, "files": listing(folder)})
    sync(folder.parent)


def load_newest(root: Path, engines: Mapping[str, Any], ranks: Ranks) -> tuple[int, dict[str, Any]] | None:
    """Load the newest complete checkpoint into the engines; (step, state), or None when there is none.

    All ranks call.

    Raises:
        StageError: it was saved by another number of ranks or under other ZeRO stages, so that its shards
            do not fit. Starting anew would cost what it holds; that is the user's to decide.
    """
    newest = ranks.max(max(complete_steps(root), default=0))
    if not newest:
        return None
    folder = _folder(root, newest)
    _refuse_other_layout(folder, engines, ranks)
    for name, engine in engines.items():
        engine.load_checkpoint(str(folder), tag=name, load_module_strict=not _has_frozen(engine))
    _restore_generators(torch.load(folder / f"rank-{ranks.rank}.pt", weights_only=True))
    ranks.barrier()
    return newest, json.loads((folder / "state.json").read_text(encoding="utf-8"))


def _refuse_other_layout(folder: Path, engines: Mapping[str, Any], ranks: Ranks) -> None:
    record = json.loads((folder / COMPLETE).read_text(encoding="utf-8"))
    saved, here = (record["ranks"], record["zero_stages"]), (ranks.world, _zero_stages(engines))
    if saved != here:
        then, now = _described(*saved), _described(*here)
        raise StageError(
            f"the checkpoint `{folder.name}` was saved by {then}, and this is {now}",
            f"run it as it was to go on, or remove `{folder.parent}` to start anew",
        )


def _described(ranks: int, zero_stages: Mapping[str, int]) -> str:
    stages = ", ".join(f"{name} {stage}" for name, stage in zero_stages.items())
    return f"{ranks} rank{'s' if ranks > 1 else ''} with ZeRO {stages}"


def _zero_stages(engines: Mapping[str, Any]) -> dict[str, int]:
    return {name: int(engine.zero_optimization_stage()) for name, engine in engines.items()}


def _generators() -> dict[str, Any]:
    name, keys, position, has_gauss, gauss = np.random.get_state()
    version, internal, gauss_next = random.getstate()
    return {
        "python": {"version": version, "internal": list(internal), "gauss_next": gauss_next},
        "numpy": {
            "name": name,
            "keys": torch.from_numpy(keys.astype(np.int64)),
            "position": position,
            "has_gauss": has_gauss,
            "gauss": gauss,
        },
        "torch": torch.get_rng_state(),
        "accelerator": get_accelerator().get_rng_state(),
    }


def _restore_generators(state: Mapping[str, Any]) -> None:
    python, numpy = state["python"], state["numpy"]
    random.setstate((python["version"], tuple(python["internal"]), python["gauss_next"]))
    keys = numpy["keys"].numpy().astype(np.uint32)
    np.random.set_state((numpy["name"], keys, numpy["position"], numpy["has_gauss"], numpy["gauss"]))
    torch.set_rng_state(state["torch"])
    get_accelerator().set_rng_state(state["accelerator"])
