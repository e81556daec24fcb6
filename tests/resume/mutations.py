"""Ways to lose a part of the state on its way into a checkpoint, to make the loss matter, and to fail.

Each is applied inside a rank before its stage starts.
"""

from __future__ import annotations

import errno
import os
import random
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import torch
from rlhfc.stages.common import generators, metrics, saving, snapshots, training, update
from rlhfc.stages.common.job import StageError


def _through(value: Any, change: Callable[[str, Any], Any], name: str = "") -> Any:
    """``value`` with each leaf replaced by ``change(name, leaf)``; lists and mappings as they are."""
    if isinstance(value, dict):
        return type(value)((key, _through(item, change, str(key))) for key, item in value.items())
    if isinstance(value, list):
        return [_through(item, change, name) for item in value]
    return change(name, value)


def _on_save(engine: str, change: Callable[[str, Any], Any]) -> Callable[[], None]:
    def apply() -> None:
        save = snapshots.SnapshotEngine.save

        def changed(self: snapshots.SnapshotEngine, state_dict: Any, path: str) -> None:
            if Path(path).parent.name in (engine, "train"):
                state_dict = _through(state_dict, change)
            save(self, state_dict, path)

        snapshots.SnapshotEngine.save = changed  # type: ignore[method-assign]

    return apply


def _zeros(*names: str) -> Callable[[str, Any], Any]:
    def change(name: str, value: Any) -> Any:
        if name not in names:
            return value
        return torch.zeros_like(value) if isinstance(value, torch.Tensor) else 0

    return change


def _ahead(name: str, value: Any) -> Any:
    """A schedule that is one step ahead: at its start it would be where it is, by way of the warm-up."""
    return value + 1 if name == "last_epoch" else value


def _weights(name: str, value: Any) -> Any:
    """Weights in full precision, as the module has them and as ZeRO keeps them."""
    ours = name.startswith("model.") or name in ("single_partition_of_fp32_groups", "fp32_flat_groups")
    return value + 0.01 if ours and isinstance(value, torch.Tensor) else value


def _generator(*names: str) -> Callable[[], None]:
    def apply() -> None:
        read = generators.Generators.state_dict

        def changed(self: generators.Generators) -> dict[str, Any]:
            real = read(self)
            kept = (random.getstate(), np.random.get_state(), torch.get_rng_state())
            random.seed(0)
            np.random.seed(0)
            torch.manual_seed(0)
            fresh = read(self)
            random.setstate(kept[0])
            np.random.set_state(kept[1])
            torch.set_rng_state(kept[2])
            return {name: fresh[name] if name in names else state for name, state in real.items()}

        generators.Generators.state_dict = changed  # type: ignore[method-assign]

    return apply


def _position() -> None:
    start = saving.Saver.start

    def changed(self: Any, folder: Path, facts: Any, files: Any) -> None:
        start(self, folder, facts | {"step": facts["step"] - 1}, files)

    saving.Saver.start = changed  # type: ignore[method-assign]


def _hungry() -> None:
    """Let every loss depend on Python's and numpy's generators, which our stages leave alone."""

    def wrap(descend: Any) -> Any:
        def noisy(engine: Any, loss: torch.Tensor, *, last: bool) -> Any:
            return descend(engine, loss * (1 + 0.1 * random.random() * np.random.random()), last=last)

        return noisy

    training.descend = wrap(training.descend)  # type: ignore[attr-defined]
    update.descend = wrap(update.descend)  # type: ignore[attr-defined]


def _slow() -> None:
    """Have each file written half a second later."""
    write = saving.write_tensors

    def late(path: Path, value: Any, beat: Callable[[], None]) -> tuple[int, str]:
        time.sleep(0.5)
        return write(path, value, beat)

    saving.write_tensors = late


def _no_room() -> None:
    """Have the last rank find the disk full."""
    if os.environ["RANK"] == str(int(os.environ["WORLD_SIZE"]) - 1):

        def write(self: Any, data: Any) -> int:
            self.error = OSError(errno.ENOSPC, "No space left on device")
            raise self.error

        snapshots._Hashed.write = write  # type: ignore[method-assign]


def _refused() -> None:
    """Find a mistake of the user's after step 2, on all ranks."""
    write = metrics.Metrics.write

    def refuse(self: metrics.Metrics, *, step: int, **values: Any) -> None:
        write(self, step=step, **values)
        if step == 3:
            raise StageError("this is wrong", "mend it")

    metrics.Metrics.write = refuse  # type: ignore[method-assign]


MUTATIONS: dict[str, Callable[[], None]] = {
    "weights": _on_save("actor", _weights),
    "first moments": _on_save("actor", _zeros("exp_avg")),
    "second moments": _on_save("actor", _zeros("exp_avg_sq")),
    "optimiser step": _on_save("actor", _zeros("step")),
    "moments of the critic": _on_save("critic", _zeros("exp_avg")),
    "schedule": _on_save("actor", _ahead),
    "schedule of the critic": _on_save("critic", _ahead),
    "torch's generator": _generator("torch", "accelerator"),  # on the CPU they are one
    "Python's generator": _generator("python"),
    "numpy's generator": _generator("numpy"),
    "position": _position,
    "hungry": _hungry,
    "slow": _slow,
    "no room": _no_room,
    "refused": _refused,
}
