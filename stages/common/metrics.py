"""Metrics as JSON lines, written by rank 0, in step with the checkpoints."""

from __future__ import annotations

import json
import math
import time
from pathlib import Path
from typing import Any


class Metrics:
    """Appends one JSON object a line; a line is written whole or not at all.

    Args:
        path: the file, or None on ranks that do not write.
        resumed_at: step of the checkpoint; later lines belong to work that is done again, and go.
    """

    def __init__(self, path: Path | None, resumed_at: int = 0) -> None:
        self._path = path
        self._started = time.monotonic()
        if path is not None:
            kept = [line for line in _lines(path) if line["step"] <= resumed_at] if resumed_at else []
            text = "".join(json.dumps(line) + "\n" for line in kept)
            path.write_text(text, encoding="utf-8")

    def write(self, *, step: int, total: int, phase: str, **values: Any) -> None:
        """Append a line; a number that is not finite is written as text, since JSON has none."""
        if self._path is None:
            return
        line = {
            "step": step,
            "total": total,
            "phase": phase,
            "seconds": round(time.monotonic() - self._started, 3),
        }
        line |= {name: _plain(value) for name, value in values.items()}
        with self._path.open("a", encoding="utf-8") as stream:
            stream.write(json.dumps(line) + "\n")


def _plain(value: Any) -> Any:
    if isinstance(value, float):
        return float(f"{value:.6g}") if math.isfinite(value) else str(value)
    return value


def _lines(path: Path) -> list[dict[str, Any]]:
    if not path.exists():
        return []
    lines = []
    for text in path.read_text(encoding="utf-8", errors="replace").splitlines():
        try:
            line = json.loads(text)
        except ValueError:
            continue  # torn by a kill; its step is done again
        if isinstance(line, dict) and isinstance(line.get("step"), int):
            lines.append(line)
    return lines
