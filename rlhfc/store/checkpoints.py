"""What a plan needs to know of a running action's checkpoints: which is complete, how far it got."""

from __future__ import annotations

import json
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from rlhfc.observe import LOOKED

COMPLETE = "COMPLETE.json"


def places(work: Path) -> Iterator[Path]:
    """Where an action's checkpoints, metrics and outputs may lie: its attempts, the newest first.

    The last is the action's own folder, where earlier versions had them.
    """
    folder = work / "attempts"
    sys.audit(LOOKED, folder)
    try:
        found = [path for path in folder.iterdir() if path.name.isdecimal()]
    except (FileNotFoundError, NotADirectoryError):
        found = []
    yield from sorted(found, key=lambda path: int(path.name), reverse=True)
    yield work


def newest_with(work: Path, name: str) -> Path | None:
    """What lies under a name in the newest attempt that has it."""
    for place in places(work):
        sys.audit(LOOKED, place / name)
        if (place / name).exists():
            return place / name
    return None


def step_folders(work: Path) -> list[Path]:
    """Folders of an action's checkpoints, complete or not, by step."""
    folder = newest_with(work, "checkpoints")
    return sorted(path for path in folder.glob("step-*") if path.is_dir()) if folder is not None else []


def newest_checkpoint(work: Path) -> tuple[int, int] | None:
    """Step of the newest complete checkpoint under ``work`` and the step that the stage ends at.

    Complete means: ``COMPLETE.json`` is there and every file that it lists has the size it says.
    """
    for folder in reversed(step_folders(work)):
        found = _complete_step(folder)
        if found is not None:
            step, total = found
            return step, max(step, total)
    return None


def read_metrics(path: Path) -> list[dict[str, Any]]:
    """Read the lines of a metrics file that are whole JSON objects, oldest first.

    Raises:
        FileNotFoundError: there is no such file.
    """
    found = []
    for line in path.read_bytes().split(b"\n"):
        try:
            value = json.loads(line)
        except ValueError:  # empty, or torn by a kill or by a writer at work
            continue
        if isinstance(value, dict):
            found.append(value)
    return found


def _complete_step(folder: Path) -> tuple[int, int] | None:
    try:
        record = json.loads((folder / COMPLETE).read_bytes())
        whole = all(_size(folder / file["path"]) == file["size"] for file in record["files"])
        return (int(record["step"]), int(record["total"])) if whole else None
    except (OSError, ValueError, KeyError, TypeError):
        return None


def _size(path: Path) -> int:
    sys.audit(LOOKED, path)
    return path.stat().st_size
