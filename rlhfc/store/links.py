"""Links among a store's own names: rlhfc makes none there, and a stranger's would have it write elsewhere."""

from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path

FANNED_OUT = ("objects", "trees", "actions", "keydocs")


def first_link(root: Path) -> Path | None:
    """The first symbolic link where a run would write, or None; ``root`` itself may be one.

    What a stage has left in its ``out`` or ``checkpoints`` is its own: a run removes it before it writes.
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
