"""Links among a store's own names: rlhfc makes none there, and a stranger's would have it write elsewhere."""

from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path

FANNED_OUT = ("objects", "trees", "actions", "keydocs")
OF_ATTEMPT = {"checkpoints", "metrics.jsonl", "out", "stop"}
"""What the next attempt takes over from the one before, and how a dead one is asked to stop."""


def first_link(root: Path) -> Path | None:
    """The first symbolic link where a run would write, or None; ``root`` itself may be one.

    What a stage has left in its ``out`` or ``checkpoints``, or beside them, is its own: a run removes it
    before it writes, or leaves it.
    """
    return next(_links(root), None)


def _links(root: Path) -> Iterator[Path]:
    yield from _links_in(root)
    for name in FANNED_OUT:
        yield from _links_in(root / name)
    yield from _links_in(root / "work")
    for work in _folders(root / "work"):
        yield from _links_in(work)
        yield from _links_in(work / "attempts")
        for attempt in _folders(work / "attempts"):
            yield from (path for path in _links_in(attempt) if path.name in OF_ATTEMPT)


def _links_in(folder: Path) -> list[Path]:
    try:
        with os.scandir(folder) as found:
            return sorted(Path(entry.path) for entry in found if entry.is_symlink())
    except (FileNotFoundError, NotADirectoryError):
        return []


def _folders(folder: Path) -> list[Path]:
    try:
        with os.scandir(folder) as found:
            return sorted(Path(entry.path) for entry in found if entry.is_dir())
    except (FileNotFoundError, NotADirectoryError):
        return []
