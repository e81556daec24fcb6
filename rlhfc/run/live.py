"""The live table of a run, for terminals."""

from __future__ import annotations

from rich.console import Console
from rich.live import Live
from rich.progress_bar import ProgressBar
from rich.table import Table
from rich.text import Text

from rlhfc.plan.quantities import duration
from rlhfc.run.board import Board, Row
from rlhfc.run.display import LogStreams
from rlhfc.run.meter import Meter, Reading
from rlhfc.run.outcome import State
from rlhfc.terminal import visible

BAR_WIDTH = 20
# A sign besides the colour, so that the table is legible without.
SIGNS = {
    State.WAITING: ("·", "dim"),
    State.QUEUED: ("·", "dim"),
    State.RUNNING: ("▸", "cyan"),
    State.CACHED: ("=", "dim"),
    State.FROZEN: ("❄", "dim"),
    State.RESTORED: ("⇣", "green"),
    State.DONE: ("✓", "green"),
    State.INTERRUPTED: ("‖", "yellow"),
    State.FAILED: ("✗", "red"),
    State.BLOCKED: ("-", "yellow"),
}


class LiveDisplay:
    """One row a stage: state, steps, main figure, speed, time left. Lines to say go above it."""

    def __init__(self, board: Board, console: Console, streams: LogStreams | None = None) -> None:
        self._board, self._streams = board, streams
        self._meter = Meter()
        self._live = Live(console=console, auto_refresh=False, transient=False, redirect_stdout=False)
        self._live.start()

    def refresh(self) -> None:
        """See :class:`rlhfc.run.display.Display`."""
        rows = self._board.rows()
        lines = self._board.drain()
        if self._streams is not None:
            lines += self._streams.new_lines(rows)
        for line in lines:
            self._live.console.print(Text(visible(line)))
        self._live.update(table(rows, self._meter), refresh=True)

    def close(self) -> None:
        """See :class:`rlhfc.run.display.Display`."""
        self.refresh()
        self._live.stop()


def table(rows: list[Row], meter: Meter) -> Table:
    """Lay the rows out."""
    grid = Table.grid(padding=(0, 2))
    for row in rows:
        sign, style = SIGNS[row.state]
        reading = meter.read(row) if row.state is State.RUNNING else Reading()
        grid.add_row(
            Text(f"{sign} {row.stage}", style=style),
            Text(_state(row), style=style),
            ProgressBar(total=1.0, completed=reading.share, width=BAR_WIDTH) if reading.total else "",
            f"{reading.step}/{reading.total}" if reading.total else "",
            Text(visible(f"{reading.figure[0]} {reading.figure[1]:.4g}")) if reading.figure else "",
            reading.speed or "",
            f"{duration(reading.left)} left" if reading.left is not None else "",
            Text(visible(_note(row)), style="dim", overflow="ellipsis", no_wrap=True),
        )
    return grid


def _state(row: Row) -> str:
    if row.state in (State.RUNNING, State.DONE, State.FAILED, State.INTERRUPTED) and row.elapsed:
        return f"{row.state} {duration(row.elapsed)}"
    return str(row.state)


def _note(row: Row) -> str:
    if row.state is State.RUNNING and row.resumed_at:
        return f"resumed at {row.resumed_at}"
    return f"by {row.detail}" if row.state is State.BLOCKED else row.detail
