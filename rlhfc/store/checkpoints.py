"""What a plan needs to know of a running action's checkpoints: which is complete, how far it got."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

COMPLETE = "COMPLETE.json"


def newest_checkpoint(work: Path) -> tuple[int, int] | None:
    """Step of the newest complete checkpoint under ``work`` and the step that the stage ends at.

    Complete means: ``COMPLETE.json`` is there and every file that it lists has the size it says.
    """
    steps = sorted((work / "checkpoints").glob("step-*"), reverse=True)
    for folder in steps:
        step = _complete_step(folder)
        if step is not None:
            return step, max(step, last_metric(work / "metrics.jsonl").get("total", 0))
    return None


def last_metric(path: Path) -> dict[str, Any]:
    """Last whole line of a metrics file that is being written; empty when there is none."""
    try:
        with path.open("rb") as stream:
            size = stream.seek(0, 2)
            stream.seek(max(0, size - 65536))
            lines = stream.read().split(b"\n")[:-1]
    except FileNotFoundError:
        return {}
    for line in reversed(lines):
        try:
            value = json.loads(line)
        except ValueError:
            continue
        if isinstance(value, dict):
            return value
    return {}


def _complete_step(folder: Path) -> int | None:
    try:
        record = json.loads((folder / COMPLETE).read_bytes())
        whole = all((folder / file["path"]).stat().st_size == file["size"] for file in record["files"])
        return int(record["step"]) if whole else None
    except (OSError, ValueError, KeyError, TypeError):
        return None
