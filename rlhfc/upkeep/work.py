"""Folders of actions, as removal sees them: whose they are, how old, how dear."""

from __future__ import annotations

import stat
from collections.abc import Iterator
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

from rlhfc.run.attempt import attempts, seconds_so_far
from rlhfc.store.files import listed
from rlhfc.store.guarded import unguarded
from rlhfc.store.layout import Layout

BLOCK = 512


@dataclass(frozen=True)
class Work:
    """Folder of an action that is, or was, running.

    Attributes:
        size: bytes of disk.
        age: seconds since anything in it changed.
        seconds: wall time that its attempts took since the last that was done.
        earlier: folders of all attempts but the newest, with bytes and age of each.
    """

    folder: Path
    key: str
    pipeline: str
    stage: str
    size: int
    age: float
    seconds: float
    earlier: tuple[tuple[Path, int, float], ...]


def read_works(layout: Layout, now: float) -> Iterator[Work]:
    """All of a store. One that does not say whose it is is left alone.

    Args:
        layout: where they lie.
        now: time by the clock of the file system.
    """
    for path in listed(layout.root / "work"):
        with suppress(OSError, ValueError, KeyError, TypeError):
            owner = unguarded((path / "key.json").read_bytes())
            size, changed = _measure(path)
            earlier = tuple((each.folder, *_measure(each.folder)) for each in attempts(path)[:-1])
            yield Work(
                folder=path,
                key=str(owner["key"]),
                pipeline=str(owner["pipeline"]),
                stage=str(owner["stage"]),
                size=size,
                age=now - changed,
                seconds=seconds_so_far(path),
                earlier=tuple((each, size, now - changed) for each, size, changed in earlier),
            )


def _measure(path: Path) -> tuple[int, float]:
    """Bytes of disk that a folder alone has, and when anything in it changed last."""
    size, newest = 0, path.stat().st_mtime
    for below in path.iterdir():
        with suppress(FileNotFoundError):
            state = below.stat(follow_symlinks=False)
            newest = max(newest, state.st_mtime)
            if stat.S_ISDIR(state.st_mode):
                more, changed = _measure(below)
                size, newest = size + more, max(newest, changed)
            elif state.st_nlink == 1:
                size += state.st_blocks * BLOCK
    return size, newest
