"""Training state on disk, whole or not there: what a resumed stage goes on from.

A checkpoint is a folder ``step-000120``. The training threads copy their state and go on; a thread of
each rank writes the copy and digests it. When all ranks have written, rank 0 writes ``COMPLETE.json``,
which lists every file with size and digest: a folder without it is no checkpoint.
"""

from __future__ import annotations

import errno
import json
import shutil
import threading
from collections.abc import Mapping
from pathlib import Path
from typing import Any, Protocol

import torch

from .generators import Generators, seed_new_rank
from .job import Interrupted, Job, sync, write_json
from .layouts import Layout, convert, load_universal
from .ranks import Ranks
from .snapshots import GLANCE, Background, SnapshotEngine, on_host, write_tensors

FORMAT = 3
COMPLETE = "COMPLETE.json"
RESUMED_OTHERWISE = "resumed_with_other_layout"
# Seconds that rank 0 waits for what the others write, when its training is over and nobody asks any more.
PARTING = 60.0


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
        self._writer, self._given_up = Background(), threading.Event()
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
        self._ranks.barrier()
        newest = [folder.name for folder in self._completed()[-1:]]
        (names, *_) = self._ranks.gather(newest)  # rank 0 decides
        return self._load(self._root / names[0]) if names else 0  # type: ignore[index]

    def after_step(self, step: int) -> None:
        """What is due after a step that is not the last: a checkpoint, an answer to a request to stop.

        Raises:
            Interrupted: the stop file is there, and a checkpoint is complete.
            OSError: a checkpoint could not be written.
        """
        self.check()
        stop = self._ranks.stop_requested(self._job.paths["stop_file"])
        if stop or step % self._job.params.checkpoint_every == 0:
            self.save(step)
        if stop:
            self.finish()
            raise Interrupted

    def save(self, step: int) -> None:
        """Copy all state and have it written; waits for the checkpoint before, if that is being written.

        Raises:
            OSError: the one before could not be written.
        """
        self.finish()
        folder = self._root / f"step-{step:06d}"
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
        self._writer.start(lambda: self._write(folder, step, files))

    def check(self) -> None:
        """Once a step: learn of a checkpoint that could not be written, on this rank or another.

        Raises:
            OSError: that was so.
        """
        error = self._writer.error
        ours = 0 if error is None else getattr(error, "errno", None) or errno.EIO
        number = self._ranks.max(ours)
        if number:
            self._given_up.set()
            # With the number of the rank that failed, so that all ranks end alike.
            raise error or OSError(number, "another rank could not write its part of a checkpoint")

    def finish(self) -> None:
        """Wait until what is being written is complete; what the writers write shows that it gets on.

        Raises:
            OSError: it could not be written.
        """
        while not self._ranks.all(self._writer.idle(GLANCE)):
            self.check()
        self.check()

    def _all_parts(self) -> dict[str, Stateful]:
        return {**self._parts, "generators": Generators()}

    def _completed(self) -> list[Path]:
        """Checkpoints that were completed, oldest first."""
        return sorted((path.parent for path in self._root.glob(f"step-*/{COMPLETE}")), key=_number)

    def _load(self, folder: Path) -> int:
        record = json.loads((folder / COMPLETE).read_text(encoding="utf-8"))
        saved = Layout(record["ranks"], record["zero_stages"], record["device"])
        self._changes = list(record["layout_changes"])
        step = int(record["step"])
        if saved != self._layout:
            self._changes.append(f"{saved} → {self._layout} at step {step}")
        for name, engine in self._engines.items():
            self._job.beat()
            if saved.shards_like(self._layout):
                engine.load_checkpoint(str(folder), tag=name, load_module_strict=not _has_frozen(engine))
            else:
                self._load_otherwise(engine, folder / name)
        self._load_parts(folder, saved, step)
        self._ranks.barrier()
        return step

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

    def _write(self, folder: Path, step: int, files: dict[Path, Any]) -> None:
        """Write this rank's files; on rank 0, complete the checkpoint. Runs beside the training."""
        paths, written = list(files), []
        try:
            for path in paths:
                # Popped, so that its memory is free from here on.
                size, digest = write_tensors(path, files.pop(path), self._job.beat)
                written.append({"path": path.relative_to(folder).as_posix(), "size": size, "digest": digest})
            for place in {path.parent for path in paths}:
                sync(place)
            if not self._ranks.first:
                write_json(_told(folder, self._ranks.rank), written)
                return
            for rank in range(1, self._ranks.world):
                others = self._await(_told(folder, rank))
                if others is None:
                    return
                written += others
            self._complete(folder, step, sorted(written, key=lambda file: file["path"]))
        except OSError:
            for path in paths:  # the room is needed; without all of them the rest is worth nothing
                path.unlink(missing_ok=True)
            raise

    def _await(self, told: Path) -> list[dict[str, Any]] | None:
        """What another rank has written, once it has; None when nobody waits for the checkpoint any more."""
        left = PARTING
        while not told.exists():
            if self._given_up.wait(GLANCE) or left <= 0:
                return None
            if not threading.main_thread().is_alive():
                left -= GLANCE
        listed: list[dict[str, Any]] = json.loads(told.read_text(encoding="utf-8"))
        told.unlink()
        return listed

    def _complete(self, folder: Path, step: int, files: list[dict[str, Any]]) -> None:
        sync(folder)
        record = {
            "format": FORMAT,
            "key": self._key,
            "step": step,
            "total": self._total,
            "ranks": self._layout.ranks,
            "zero_stages": dict(self._layout.zero_stages),
            "device": self._layout.device,
            "layout_changes": self._changes,
            "files": files,
        }
        write_json(folder / COMPLETE, record)
        sync(folder.parent)
        for old in self._completed()[: -self._job.params.keep_checkpoints]:
            shutil.rmtree(old)


def _rank_file(rank: int) -> str:
    return f"rank-{rank}.pt"


def _told(folder: Path, rank: int) -> Path:
    """Where a rank tells rank 0 that its files are written, and which."""
    return folder / f"written-{rank}.json"


def _has_frozen(engine: Any) -> bool:
    return any(not parameter.requires_grad for parameter in engine.module.parameters())


def _number(folder: Path) -> int:
    return int(folder.name.removeprefix("step-"))
