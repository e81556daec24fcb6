"""Disk space: what a run will need of it at the least, told before it is started.

The need of a stage is its outputs, as large as last time, and its checkpoints: as large as those of its
last attempts or, where there were none, twelve bytes for each weight that is trained (AdamW's two
moments and the fp32 weights), which no ZeRO stage makes less. All of it errs to the low side, so that
what is refused would have failed.
"""

from __future__ import annotations

import errno
import json
import os
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path

from rlhfc.compile.action import Action, ResolvedSource, UpstreamOutput
from rlhfc.compile.deepspeed import engines_of
from rlhfc.errors import Diagnostic, UserError
from rlhfc.plan.estimate import CERTAIN, Estimate, estimates
from rlhfc.plan.planner import Plan
from rlhfc.plan.quantities import size
from rlhfc.run.attempt import attempts, seconds_so_far
from rlhfc.run.outcome import Failure
from rlhfc.store.checkpoints import step_folders
from rlhfc.store.files import walk_files
from rlhfc.store.store import Store

WEIGHTS = (".safetensors", ".bin", ".pt", ".pth")
STATE_BYTES = 12  # of optimiser and fp32 weights, for each weight that is trained
WEIGHT_BYTES = {"bfloat16": 2, "float16": 2}
WIDEST_WEIGHT = 4
INODES = 500  # that a stage may take: attempts, checkpoints and outputs are some dozens of files
NO_SPACE = (errno.ENOSPC, errno.EDQUOT)
HINT = "`rlhfc gc` frees space in a store, and `--store` names another place"
OVERRIDE = "`--no-space-check` runs it all the same"


@dataclass(frozen=True)
class Free:
    """What a file system has left for us: bytes, and files (None where it has no such bound)."""

    size: int
    files: int | None


@dataclass(frozen=True)
class Need:
    """Bytes that a stage will take beyond those it has already."""

    outputs: int
    checkpoints: int

    @property
    def total(self) -> int:
        """Both together: outputs are written while the checkpoints are still there."""
        return self.outputs + self.checkpoints


def free_space(folder: Path) -> Free:
    """Tell what the file system of a folder has left."""
    found = os.statvfs(folder)
    return Free(found.f_bavail * found.f_frsize, found.f_favail if found.f_files else None)


class SpaceCheck:
    """Knows what stages need, and refuses what cannot fit."""

    def __init__(self, store: Store, known: Mapping[str, Estimate]) -> None:
        """Take a store that exists, and estimates by stage; those from other stages prove nothing."""
        self._store = store
        self._known = {name: found for name, found in known.items() if found.basis != "kind"}

    @classmethod
    def of(cls, plan: Plan, store: Store) -> SpaceCheck:
        """Know what a plan's stages need."""
        return cls(store, estimates(plan, store, lambda stage, key: seconds_so_far(store.work(stage, key))))

    def check_run(self, plan: Plan) -> None:
        """Refuse a run whose stages cannot all fit; those that may turn out to be cached do not count.

        Raises:
            UserError: with what is needed and what there is.
        """
        trees = {
            (name, port): tree
            for name, planned in plan.stages.items()
            if planned.result is not None
            for port, tree in planned.result.outputs.items()
        }
        needs = {
            name: self.need(plan.pipeline.actions[name], planned.key, trees)
            for name, planned in plan.stages.items()
            if planned.verdict in CERTAIN
        }
        if not needs:
            return
        # Checkpoints go when their stage is done, so the largest of them counts.
        outputs = sum(need.outputs for need in needs.values())
        widest = max(needs, key=lambda name: needs[name].checkpoints)
        asked, there = outputs + needs[widest].checkpoints, free_space(self._store.layout.root)
        if asked > there.size:
            parts = (
                f"{size(outputs)} of outputs, {size(needs[widest].checkpoints)} of checkpoints of {widest}"
            )
            message = f"needs at least {size(asked)} ({parts}), and {self._there(there)}"
            raise UserError(Diagnostic(message, hint=f"{HINT}; {OVERRIDE}"))
        if there.files is not None and there.files < INODES * len(needs):
            there_are = f"the file system of `{self._store.layout.root}` takes {there.files}"
            message = f"needs {INODES * len(needs)} new files, and {there_are}"
            raise UserError(Diagnostic(message, hint=f"{HINT}; {OVERRIDE}"))

    def refusal(self, action: Action, key: str, trees: Mapping[tuple[str, str], str]) -> Failure | None:
        """Refuse one stage that cannot fit now; None when it can."""
        need, there = self.need(action, key, trees), free_space(self._store.layout.root)
        if need.total <= there.size:
            return None
        parts = f"{size(need.outputs)} of outputs, {size(need.checkpoints)} of checkpoints"
        message = f"needs at least {size(need.total)} ({parts}), and {self._there(there)}"
        return Failure(message, f"{HINT}; {OVERRIDE}")

    def need(self, action: Action, key: str | None, trees: Mapping[tuple[str, str], str]) -> Need:
        """What a stage will take.

        Args:
            action: the stage.
            key: its key, or None while that is not known.
            trees: of the outputs that are known, by stage and port.
        """
        estimate = self._known.get(action.stage)
        outputs = (estimate.size or 0) if estimate is not None else 0
        if not action.kind.resumable:
            return Need(outputs, 0)
        work = self._store.work(action.stage, key) if key is not None else None
        here = {path.name: _bytes(path) for path in step_folders(work)} if work is not None else {}
        one = max(here.values(), default=0) or self._last_checkpoint(action)
        one = one or STATE_BYTES * sum(_trained_weights(action, self._store, trees))
        kept: int = getattr(action.params, "keep_checkpoints", 1)
        kept += getattr(action.params, "best", None) is not None
        # One more than are kept: the oldest goes when the newest is complete.
        return Need(outputs, max(0, one * (kept + 1) - sum(here.values())))

    def _last_checkpoint(self, action: Action) -> int:
        """Size of a checkpoint of the stage's last result."""
        key = self._store.last_key(action.pipeline, action.stage)
        tried = attempts(self._store.work(action.stage, key)) if key is not None else []
        statuses = [status for attempt in tried if (status := attempt.status()) is not None]
        return next((status.checkpoint_size for status in reversed(statuses) if status.checkpoint_size), 0)

    def _there(self, there: Free) -> str:
        return f"the file system of `{self._store.layout.root}` has {size(there.size)}"


def is_full(error: OSError) -> bool:
    """Whether an error says that there is no space, or no more of it for us."""
    return error.errno in NO_SPACE


def full_failure(error: OSError, folder: Path, wanted: int | None = None) -> Failure:
    """Tell of a disk that was full: where, what is free, and what is wanted where that is known."""
    where = f"`{error.filename}`" if error.filename else f"`{folder}`"
    needs = f"{size(wanted)} are needed and " if wanted else ""
    try:
        left = size(free_space(folder).size)
    except OSError:
        left = "an unknown amount"
    reason = error.strerror or "no space left"
    return Failure(f"{reason}: {where}; {needs}{left} free", f"{HINT}, then run the same command again")


def checkpoint_size(work: Path) -> int | None:
    """Bytes of the newest checkpoint of an action, or None when there is none."""
    newest = max(step_folders(work), default=None)
    return _bytes(newest) if newest is not None else None


def _bytes(folder: Path) -> int:
    try:
        return sum(found.stat(follow_symlinks=False).st_size for found in walk_files(folder))
    except OSError:  # it goes while we look
        return 0


def _trained_weights(action: Action, store: Store, trees: Mapping[tuple[str, str], str]) -> Iterator[int]:
    """Number of the weights of each engine that trains all of them, as far as its model is here."""
    for name, engine in engines_of(action).items():
        if engine.frozen or engine.params.lora is not None:
            continue
        for address in ("model", "engines"):
            binding = action.inputs.get(address)
            folder = _folder(binding, store, trees)
            if folder is not None:
                own = folder / name
                yield _weights(own if own.is_dir() else folder)


def _folder(
    binding: UpstreamOutput | ResolvedSource | None, store: Store, trees: Mapping[tuple[str, str], str]
) -> Path | None:
    if isinstance(binding, ResolvedSource):
        return binding.path if binding.file is None else None
    tree = trees.get((binding.stage, binding.port)) if binding is not None else None
    view = store.layout.view(tree) if tree is not None else None
    return view if view is not None and view.is_dir() else None


def _weights(folder: Path) -> int:
    """Number of weights that the files of a model hold, at least."""
    try:
        sizes = [path.stat().st_size for path in folder.iterdir() if path.suffix in WEIGHTS]
        config = json.loads((folder / "config.json").read_bytes())
    except (OSError, ValueError):
        return 0
    dtype = config.get("dtype") or config.get("torch_dtype") if isinstance(config, dict) else None
    return sum(sizes) // WEIGHT_BYTES.get(str(dtype), WIDEST_WEIGHT)
