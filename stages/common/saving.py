"""Writing a checkpoint beside the training: each rank its files, and rank 0 the record when all have."""

from __future__ import annotations

import errno
import json
import shutil
import threading
import zlib
from collections.abc import Callable, Mapping
from contextlib import suppress
from pathlib import Path
from typing import Any

from blake3 import blake3

from .job import sync, write_json
from .ranks import Ranks
from .snapshots import GLANCE, Background, write_tensors

COMPLETE = "COMPLETE.json"
# Seconds that rank 0 waits for what the others write, when its training is over and nobody asks any more.
PARTING = 60.0
LEAVING = "leaving-"  # what is on its way out


class Saver:
    """Writes one checkpoint at a time, on a thread of each rank.

    Args:
        root: folder of all checkpoints.
        ranks: this process among its equals.
        keep: newest complete checkpoints that stay, with what they need.
        beat: shows that the stage gets on; called at each piece that is written.
    """

    def __init__(self, root: Path, ranks: Ranks, keep: int, beat: Callable[[], None]) -> None:
        self._root, self._ranks, self._keep, self._beat = root, ranks, keep, beat
        self._writer, self._given_up = Background(), threading.Event()

    def start(self, folder: Path, facts: Mapping[str, Any], files: dict[Path, Any]) -> None:
        """Begin; the caller has waited for the checkpoint before.

        Args:
            folder: of the checkpoint, empty.
            facts: what its record says besides the files.
            files: what each file of this rank is to hold; emptied on the way.
        """
        self._writer.start(lambda: self._write(folder, facts, files))

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

    def _write(self, folder: Path, facts: Mapping[str, Any], files: dict[Path, Any]) -> None:
        """Write this rank's files; on rank 0, complete the checkpoint. Runs beside the training."""
        paths, written = list(files), []
        try:
            for path in paths:
                # Popped, so that its memory is free from here on.
                size, digest = write_tensors(path, files.pop(path), self._beat)
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
            self._complete(folder, facts, sorted(written, key=lambda file: file["path"]))
        except OSError:
            # Once the record is there the checkpoint stands, whatever failed after it.
            for path in paths if not (folder / COMPLETE).exists() else ():
                path.unlink(missing_ok=True)  # the room is needed, and without all the rest is worth nothing
            raise
        self._remove_old()

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

    def _complete(self, folder: Path, facts: Mapping[str, Any], files: list[dict[str, Any]]) -> None:
        sync(folder)
        record = {**facts, "files": files}
        write_json(folder / COMPLETE, {**record, "crc": _checksum(record)})
        sync(folder.parent)

    def _remove_old(self) -> None:
        """Remove what need not stay: its name first, so that no moment leaves half of a checkpoint."""
        there = completed(self._root)
        kept = there[-self._keep :]
        for old in {*there} - {*kept} - {*map(_needed, kept)}:
            with suppress(OSError):  # it is tried again after the next one; the new checkpoint stands
                leaving = old.rename(old.with_name(f"{LEAVING}{old.name}"))
                shutil.rmtree(leaving, ignore_errors=True)


def completed(root: Path) -> list[Path]:
    """Checkpoints that were completed, oldest first."""
    found = (path.parent for path in root.glob(f"step-*/{COMPLETE}"))
    return sorted(found, key=lambda folder: int(folder.name.removeprefix("step-")))


def step_folder(root: Path, step: int) -> Path:
    """Where the checkpoint of a step lies."""
    return root / f"step-{step:06d}"


def read_record(folder: Path) -> dict[str, Any]:
    """What ``COMPLETE.json`` says of a checkpoint."""
    record: dict[str, Any] = json.loads((folder / COMPLETE).read_text(encoding="utf-8"))
    return record


def _checksum(record: Mapping[str, Any]) -> str:
    """CRC-32 of the record as canonical JSON, by which rlhfc knows one with a flipped bit."""
    text = json.dumps(record, sort_keys=True, separators=(",", ":"), ensure_ascii=False)
    return f"{zlib.crc32(text.encode()):08x}"


def is_whole(path: Path, file: Mapping[str, Any]) -> bool:
    """Whether a file of a checkpoint has the size and the digest that the record lists."""
    if not path.is_file() or path.stat().st_size != file["size"]:
        return False
    return f"b3:{blake3().update_mmap(path).hexdigest()}" == file["digest"]


def _needed(folder: Path) -> Path | None:
    """The checkpoint that one of a later step needs: of the best weights so far."""
    try:
        best = read_record(folder).get("best")
        return step_folder(folder.parent, best) if best is not None else None
    except (OSError, ValueError, TypeError, AttributeError):
        return None  # damaged itself, which the next launch will find: it can need nothing


def _told(folder: Path, rank: int) -> Path:
    """Where a rank tells rank 0 that its files are written, and which."""
    return folder / f"written-{rank}.json"
