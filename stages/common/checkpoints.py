"""Training state on disk, whole or not there: what a resumed stage goes on from.

A checkpoint is a folder ``step-000120``. The training threads copy their state and go on; a thread of
each rank writes the copy and digests it. When all ranks have written, rank 0 writes ``COMPLETE.json``,
which lists every file with size and digest: a folder without it is no checkpoint.
"""

from __future__ import annotations

import errno
import shutil
from collections.abc import Mapping
from pathlib import Path
from typing import Any, Protocol

import torch

from .generators import Generators, seed_new_rank
from .job import Interrupted, Job
from .layouts import Layout, convert, load_universal
from .ranks import Ranks
from .saving import COMPLETE, LEAVING, Saver, completed, is_whole, read_record, step_folder
from .snapshots import SnapshotEngine, on_host

FORMAT = 3
RESUMED_OTHERWISE = "resumed_with_other_layout"


class Stateful(Protocol):
    """What a loop keeps besides its engines: small, and alike on all ranks."""

    def state_dict(self) -> dict[str, Any]:
        """Plain values and tensors that say all of it."""

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Be as what ``state_dict`` said."""


class Checkpoints:
    """The checkpoints of one launch: where it resumes, and what it saves. All ranks call alike.

    Args:
        job: the stage.
        ranks: this process among its equals.
        engines: DeepSpeed engines by name.
        total: the last step.
        parts: what the loop keeps besides, by name: running statistics, coefficients that adapt.
    """

    def __init__(
        self,
        job: Job[Any],
        ranks: Ranks,
        engines: Mapping[str, Any],
        total: int,
        parts: Mapping[str, Stateful] | None = None,
    ) -> None:
        self._job, self._root, self._key = job, job.paths["checkpoints"], job.action_key
        self._ranks, self._engines, self._total, self._parts = ranks, engines, total, dict(parts or {})
        self._layout = Layout.of(engines, ranks.world, ranks.device)
        self._changes: list[str] = []
        self._saver = Saver(self._root, ranks, job.params.keep_checkpoints, job.beat)
        self._snapshots = SnapshotEngine()
        for engine in engines.values():
            engine.checkpoint_engine = self._snapshots

    def summary(self) -> dict[str, str]:
        """What the manifest says of resumes under another layout; empty where there was none."""
        return {RESUMED_OTHERWISE: "; ".join(self._changes)} if self._changes else {}

    def resume(self) -> int:
        """Load the newest checkpoint that was completed; its step, or 0 when there is none.

        Damaged ones are not there any more: before it launches a stage, rlhfc compares every byte with the
        digests of the record. Folders that were never completed go.
        """
        if self._ranks.first:
            for folder in (*self._root.glob("step-*"), *self._root.glob("universal-*")):
                if not (folder / COMPLETE).exists():
                    shutil.rmtree(folder)
            for folder in self._root.glob(f"{LEAVING}*"):
                shutil.rmtree(folder, ignore_errors=True)
        self._ranks.barrier()
        newest = [folder.name for folder in completed(self._root)[-1:]]
        (names, *_) = self._ranks.gather(newest)  # rank 0 decides
        return self._load(self._root / names[0]) if names else 0  # type: ignore[index]

    def after_step(self, step: int, *, best: int | None = None) -> None:
        """What is due after a step that is not the last: a checkpoint, an answer to a request to stop.

        Args:
            step: that is done.
            best: step of the weights that are to be left, where that is not to be the last one; when it
                is this step, it is saved.

        Raises:
            Interrupted: the stop file is there, and a checkpoint is complete.
            OSError: a checkpoint could not be written.
        """
        self._saver.check()
        stop = self._ranks.stop_requested(self._job.paths["stop_file"])
        if stop or step == best or step % self._job.params.checkpoint_every == 0:
            self.save(step, best=best)
        if stop:
            self.finish()
            raise Interrupted

    def save(self, step: int, *, best: int | None = None) -> None:
        """Copy all state and have it written; waits for the checkpoint before, if that is being written.

        Args:
            step: that is done.
            best: a step whose checkpoint stays as long as this one does.

        Raises:
            OSError: the one before could not be written.
        """
        self.finish()
        folder = step_folder(self._root, step)
        if self._ranks.first:
            shutil.rmtree(folder, ignore_errors=True)
            folder.mkdir(parents=True)
        self._ranks.barrier()
        for name, engine in self._engines.items():
            self._job.beat()
            # Frozen weights come from the input, not from here.
            engine.save_checkpoint(
                str(folder), tag=name, save_latest=False, exclude_frozen_parameters=_has_frozen(engine)
            )
        files = self._snapshots.take()
        parts = {name: part.state_dict() for name, part in self._all_parts().items()}
        files[folder / _rank_file(self._ranks.rank)] = on_host(parts)
        self._saver.start(folder, self._facts(step, best), files)

    def finish(self) -> None:
        """Wait until what is being written is complete.

        Raises:
            OSError: it could not be written.
        """
        self._saver.finish()

    def return_to(self, step: int) -> None:
        """Give the engines the state that they had after a step that was saved; nothing else changes.

        Every byte is compared first: the run has done that for what was there when it launched the stage.

        Raises:
            OSError: a checkpoint could not be written, or the one to return to is damaged.
        """
        self.finish()
        folder = step_folder(self._root, step)
        mine = read_record(folder)["files"][self._ranks.rank :: self._ranks.world]
        damaged = (str(folder / file["path"]) for file in mine if not is_whole(folder / file["path"], file))
        found = [path for path in self._ranks.gather(next(damaged, None)) if path is not None]
        if found:
            raise OSError(errno.EIO, "a checkpoint is not as it was written", found[0])
        self._load_engines(folder, _saved_layout(read_record(folder)))

    def _facts(self, step: int, best: int | None) -> dict[str, Any]:
        """What the record says besides the files."""
        return {
            "format": FORMAT,
            "key": self._key,
            "step": step,
            "total": self._total,
            "best": best,
            "ranks": self._layout.ranks,
            "zero_stages": dict(self._layout.zero_stages),
            "device": self._layout.device,
            "layout_changes": self._changes,
        }

    def _all_parts(self) -> dict[str, Stateful]:
        return {**self._parts, "generators": Generators()}

    def _load(self, folder: Path) -> int:
        record = read_record(folder)
        saved, step = _saved_layout(record), int(record["step"])
        self._changes = list(record["layout_changes"])
        if saved != self._layout:
            self._changes.append(f"{saved} → {self._layout} at step {step}")
        self._load_engines(folder, saved)
        self._load_parts(folder, saved, step)
        self._ranks.barrier()
        return step

    def _load_engines(self, folder: Path, saved: Layout) -> None:
        for name, engine in self._engines.items():
            self._job.beat()
            if saved.shards_like(self._layout):
                engine.load_checkpoint(str(folder), tag=name, load_module_strict=not _has_frozen(engine))
            else:
                self._load_otherwise(engine, folder / name)

    def _load_otherwise(self, engine: Any, source: Path) -> None:
        """Load shards that fit other ranks or another ZeRO stage."""
        universal = self._root / f"universal-{source.name}"
        if self._ranks.first:
            shutil.rmtree(universal, ignore_errors=True)
            convert(source, universal, engine.module)
        self._ranks.barrier()
        load_universal(engine, universal)
        self._ranks.barrier()
        if self._ranks.first:
            shutil.rmtree(universal)

    def _load_parts(self, folder: Path, saved: Layout, step: int) -> None:
        known = self._ranks.rank < saved.ranks
        states = torch.load(folder / _rank_file(self._ranks.rank if known else 0), weights_only=True)
        generators = states.pop("generators")
        for name, part in self._parts.items():
            part.load_state_dict(states[name])
        if known and saved.device == self._layout.device:
            Generators().load_state_dict(generators)
        else:
            seed_new_rank(self._job.params.seed, step, self._ranks.rank)


def _saved_layout(record: Mapping[str, Any]) -> Layout:
    return Layout(record["ranks"], record["zero_stages"], record["device"])


def _rank_file(rank: int) -> str:
    return f"rank-{rank}.pt"


def _has_frozen(engine: Any) -> bool:
    return any(not parameter.requires_grad for parameter in engine.module.parameters())
