"""How far a running stage is, read from the metrics that its rank 0 appends."""

from __future__ import annotations

import json
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from rlhfc.run.board import Row

TAIL_BYTES = 32 * 1024
# What a stage is judged by while it runs, the most telling first.
FIGURES = ("reward", "score", "loss", "accuracy", "perplexity")


@dataclass(frozen=True)
class Reading:
    """Progress of a stage.

    Attributes:
        step: steps done.
        total: the last step; 0 when it is not known.
        figure: name and value of its most telling metric.
        speed: for people, for example ``51 samples/s``.
        left: seconds until it ends, once that can be told.
    """

    step: int = 0
    total: int = 0
    figure: tuple[str, float] | None = None
    speed: str | None = None
    left: float | None = None

    @property
    def share(self) -> float:
        """Part that is done, between 0 and 1."""
        return min(1.0, self.step / self.total) if self.total else 0.0


class Meter:
    """Reads stages' metrics; remembers when it first saw each, to tell their speed."""

    def __init__(self, clock: Callable[[], float] = time.monotonic) -> None:
        self._clock = clock
        self._first: dict[tuple[str, float | None], tuple[float, int]] = {}

    def read(self, row: Row) -> Reading:
        """Read the progress of a running stage."""
        if row.work is None:
            return Reading()
        values = recent(row.work / "metrics.jsonl")
        step, total = values.get("step"), values.get("total")
        if not isinstance(step, int) or not isinstance(total, int):
            return Reading(step=row.resumed_at)
        now = self._clock()
        began, from_step = self._first.setdefault((row.stage, row.started), (now, step))
        rate = (step - from_step) / (now - began) if now > began and step > from_step else None
        left = (total - step) / rate if rate and step < total else None
        return Reading(step, total, _figure(values), _speed(values, rate), left)


def recent(path: Path) -> dict[str, Any]:
    """Merge the last lines of a metrics file: the newest value of every name; empty when there is none."""
    try:
        with path.open("rb") as stream:
            size = stream.seek(0, 2)
            stream.seek(max(0, size - TAIL_BYTES))
            lines = stream.read().split(b"\n")[:-1]
    except FileNotFoundError:
        return {}
    values: dict[str, Any] = {}
    for line in lines:
        try:
            found = json.loads(line)
        except ValueError:
            continue  # cut by where we began to read
        if isinstance(found, dict) and found.get("phase") != "sample":
            values.update(found)
    return values


def _figure(values: Mapping[str, Any]) -> tuple[str, float] | None:
    for name in FIGURES:
        value = values.get(name)
        if isinstance(value, int | float) and not isinstance(value, bool):
            return name, float(value)
    return None


def _speed(values: Mapping[str, Any], rate: float | None) -> str | None:
    for name, unit in (("samples_per_second", "samples/s"), ("tokens_per_second", "tokens/s")):
        value = values.get(name)
        if isinstance(value, int | float):
            return f"{value:.3g} {unit}"
    return f"{rate:.2g} steps/s" if rate else None
