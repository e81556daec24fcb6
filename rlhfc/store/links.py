"""Links among a store's own names: rlhfc makes none there, and a stranger's would have it write elsewhere."""

from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path

# How deep rlhfc itself makes folders and files that it later writes to.
DEPTHS = {"objects": 1, "trees": 1, "actions": 1, "keydocs": 1, "work": 4}


def first_link(root: Path) -> Path | None:
    """The first symbolic link where a run would write, or None; ``root`` itself may be one."""
    return next(_links(root, DEPTHS), None)


def _links(root: Path, depths: dict[str, int]) -> Iterator[Path]:
    try:
        with os.scandir(root) as found:
            entries = sorted(found, key=lambda entry: entry.name)
    except (FileNotFoundError, NotADirectoryError):
        return
    for entry in entries:
        if entry.is_symlink():
            yield Path(entry.path)
        elif entry.name in depths and entry.is_dir():
            yield from _below(Path(entry.path), depths[entry.name])


def _below(folder: Path, depth: int) -> Iterator[Path]:
    with os.scandir(folder) as found:
        for entry in found:
            if entry.is_symlink():
                yield Path(entry.path)
            elif depth > 1 and entry.is_dir():
                yield from _below(Path(entry.path), depth - 1)
