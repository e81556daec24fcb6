"""What a run shows while it runs: plain lines, or a live table on a terminal. All of it on stderr."""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import Protocol, TextIO

from rlhfc.plan.quantities import duration
from rlhfc.run.board import Board, Row
from rlhfc.run.logs import LogReader
from rlhfc.run.meter import Meter, Reading
from rlhfc.run.outcome import State

PERIOD_SECONDS = 10.0
LEAST_SECONDS = 1.0  # however quick the steps are
SILENT_PERIOD_SECONDS = 60.0  # between signs of life of a stage that reports no steps
SHARE = 0.1


class Display(Protocol):
    """Shows a board."""

    def refresh(self) -> None:
        """Show what has changed."""

    def close(self) -> None:
        """Show the rest, and leave the terminal as it was."""


class QuietDisplay:
    """Shows nothing; what went wrong is told at the end."""

    def refresh(self) -> None:
        """See :class:`Display`."""

    def close(self) -> None:
        """See :class:`Display`."""


class LastingDisplay:
    """Shows what another display shows, as long as somebody looks.

    A terminal that was closed, or a pipe whose reader has gone, must not cost the run: what is being
    computed is worth more than what is said of it.
    """

    def __init__(self, shown: Display) -> None:
        """Take the display that may fail."""
        self._shown: Display = shown

    def refresh(self) -> None:
        """See :class:`Display`."""
        try:
            self._shown.refresh()
        except OSError:
            self._shown = QuietDisplay()

    def close(self) -> None:
        """See :class:`Display`."""
        try:
            self._shown.close()
        except OSError:
            self._shown = QuietDisplay()


class LogStreams:
    """New lines of the logs of all running stages, with the stage's name in front."""

    def __init__(self) -> None:
        self._readers: dict[str, LogReader] = {}

    def new_lines(self, rows: list[Row]) -> list[str]:
        """Return the lines since the last call."""
        lines = []
        for row in rows:
            if row.log is None:
                continue
            if row.stage not in self._readers or self._readers[row.stage].path != row.log:
                self._readers[row.stage] = LogReader(row.log)
            lines += [f"{row.stage} | {line}" for line in self._readers[row.stage].new_lines() if line]
        return lines


class PlainDisplay:
    """One line when a stage starts, gets on, or ends. For logs, pipes, and plain terminals."""

    def __init__(
        self,
        board: Board,
        stream: TextIO,
        streams: LogStreams | None = None,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._board, self._stream, self._streams, self._clock = board, stream, streams, clock
        self._meter = Meter(clock)
        self._states: dict[str, tuple[State, float | None]] = {}
        self._told: dict[str, tuple[float, Reading]] = {}

    def refresh(self) -> None:
        """See :class:`Display`."""
        lines = self._board.drain()
        rows = self._board.rows()
        if self._streams is not None:
            lines += self._streams.new_lines(rows)
        for row in rows:
            # What was launched again between two looks is in the same state, and has been launched later.
            now = (row.state, row.started if row.state is State.RUNNING else None)
            if self._states.get(row.stage, (State.WAITING, None)) != now:
                self._states[row.stage] = now
                self._told[row.stage] = (self._clock(), self._meter.read(row))
                lines += [f"{row.stage}: {text}" for text in [transition(row)] if text]
            elif row.state is State.RUNNING:
                lines += self._progress(row)
        for line in lines:
            print(line, file=self._stream, flush=True)

    def close(self) -> None:
        """See :class:`Display`."""
        self.refresh()

    def _progress(self, row: Row) -> list[str]:
        reading, now = self._meter.read(row), self._clock()
        last, told = self._told[row.stage]
        if reading.step == told.step:
            if now - last < SILENT_PERIOD_SECONDS:
                return []
            text = f"running for {duration(row.elapsed)}"
        elif now - last < (LEAST_SECONDS if reading.share - told.share >= SHARE else PERIOD_SECONDS):
            return []
        else:
            text = progress_text(reading)
        self._told[row.stage] = (now, reading)
        return [f"{row.stage}: {text}"]


def transition(row: Row) -> str:
    """Say in words that a stage has come into its state; empty for states that need none."""
    match row.state:
        case State.RUNNING:
            return f"resumed at step {row.resumed_at}" if row.resumed_at else "started"
        case State.DONE:
            return f"done in {duration(row.elapsed)}" + (f", {row.detail}" if row.detail else "")
        case State.RESTORED:
            return f"restored {row.detail}"
        case State.FAILED:
            after = f" after {duration(row.elapsed)}" if row.started is not None else ""
            return f"failed{after}: {row.detail}"
        case State.INTERRUPTED:
            return f"interrupted after {duration(row.elapsed)}: {row.detail}"
        case State.BLOCKED:
            return f"blocked by {row.detail}"
        case State.CACHED | State.FROZEN:
            return str(row.state)
        case _:
            return ""


def progress_text(reading: Reading) -> str:
    """Progress in words: ``step 40/120 33 %, loss 2.31, 51 samples/s, 1 min left``."""
    parts = [f"step {reading.step}/{reading.total} {reading.share:.0%}".replace("%", " %")]
    if reading.figure:
        parts.append(f"{reading.figure[0]} {reading.figure[1]:.4g}")
    if reading.speed:
        parts.append(reading.speed)
    if reading.left is not None:
        parts.append(f"{duration(reading.left)} left")
    return ", ".join(parts)
