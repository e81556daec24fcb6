"""The board: what every stage is doing now. Stages' threads write it, the display reads it."""

from __future__ import annotations

import threading
import time
from collections.abc import Iterable
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from rlhfc.compile.action import Action
from rlhfc.run.outcome import State


@dataclass(frozen=True)
class Row:
    """One stage.

    Attributes:
        detail: what it waits for, or why it ended.
        work: folder of the running action, once it is known.
        log: log of the running attempt.
        started: seconds on the monotonic clock when its command was launched.
        seconds: wall time of its command, once it has ended.
        resumed_at: step of the checkpoint that it went on from.
    """

    stage: str
    kind: str
    state: State = State.WAITING
    detail: str = ""
    work: Path | None = None
    log: Path | None = None
    started: float | None = None
    seconds: float | None = None
    resumed_at: int = 0

    @property
    def elapsed(self) -> float:
        """Seconds since the launch, or of the whole launch."""
        if self.seconds is not None:
            return self.seconds
        return time.monotonic() - self.started if self.started is not None else 0.0


class Board:
    """Rows in the order of the pipeline, and lines to say."""

    def __init__(self, actions: Iterable[Action]) -> None:
        self._lock = threading.Lock()
        self._rows = {action.stage: Row(action.stage, action.kind.name) for action in actions}
        self._lines: list[str] = []

    def change(self, stage: str, **changes: Any) -> None:
        """Change fields of a stage's row."""
        with self._lock:
            self._rows[stage] = replace(self._rows[stage], **changes)

    def say(self, text: str) -> None:
        """Leave a line for people."""
        with self._lock:
            self._lines.append(text)

    def rows(self) -> list[Row]:
        """Return all rows as they are now."""
        with self._lock:
            return list(self._rows.values())

    def drain(self) -> list[str]:
        """Take the lines that nobody has shown yet."""
        with self._lock:
            lines, self._lines = self._lines, []
            return lines
