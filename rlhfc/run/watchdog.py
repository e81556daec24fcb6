"""Watches one launch: a stage that shows no sign of life, or takes longer than it may, is ended.

A sign of life is any growth of the log, the metrics or the heartbeat that a stage leaves at each unit
of its work. Sizes and times are only compared with those before, never with a clock, so that neither a
clock that jumps nor a file server whose clock differs makes a stage look dead.
"""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Sequence
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

from rlhfc.plan.quantities import duration
from rlhfc.run.fault import Fault
from rlhfc.run.process import Session

HEARTBEAT = "heartbeat"
LONGEST_LOOK = 5.0  # seconds between two looks
DUMP_SECONDS = 3.0  # for the ranks to write down where they are
TERM_SECONDS = 10.0


@dataclass(frozen=True)
class Limits:
    """What a launch is held to.

    Attributes:
        no_progress: seconds without a sign of life, or None.
        wall: seconds of the whole launch, or None.
        saving: tells how many seconds a checkpoint may take once it is asked for.
    """

    no_progress: float | None
    wall: float | None
    saving: Callable[[], float]


class Watchdog:
    """A thread beside the one that waits for the command; a context manager."""

    def __init__(
        self,
        session: Session,
        limits: Limits,
        signs: Sequence[Path],
        stop_file: Path,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        """Take what to watch.

        Args:
            session: the command.
            limits: what it is held to.
            signs: files whose growth is a sign of life.
            stop_file: asks it to save a checkpoint and stop.
            clock: seconds that never go back.
        """
        self._session, self._limits, self._signs = session, limits, signs
        self._stop_file, self._clock = stop_file, clock
        self._ended = threading.Event()
        self._thread = threading.Thread(target=self._watch, name="watchdog", daemon=True)
        self.fault: Fault | None = None
        self.words = ""

    def __enter__(self) -> Watchdog:
        if self._limits.no_progress is not None or self._limits.wall is not None:
            self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._ended.set()
        if self._thread.is_alive():
            self._thread.join()

    def _watch(self) -> None:
        began = changed = self._clock()
        before = self._look()
        while not self._ended.wait(self._period()):
            now, seen = self._clock(), self._look()
            if seen != before:
                before, changed = seen, now
            still, wall = self._limits.no_progress, self._limits.wall
            if still is not None and now - changed >= still:
                self._trip(Fault.NO_PROGRESS, f"showed no sign of life for {duration(now - changed)}")
                self._session.dump()
                self._ended.wait(DUMP_SECONDS)
                self._end()
                return
            if wall is not None and now - began >= wall:
                self._trip(Fault.TIMEOUT, f"took longer than its `timeout` of {duration(wall)}")
                with suppress(OSError):  # on a full disk it is ended all the same
                    self._stop_file.touch()
                if not self._ended.wait(self._limits.saving()):
                    self._end()
                return

    def _period(self) -> float:
        shortest = min(limit for limit in (self._limits.no_progress, self._limits.wall) if limit is not None)
        return min(LONGEST_LOOK, shortest / 10)

    def _trip(self, fault: Fault, words: str) -> None:
        self.fault, self.words = fault, words

    def _end(self) -> None:
        self._session.terminate()
        if not self._ended.wait(TERM_SECONDS):
            self._session.kill()

    def _look(self) -> list[tuple[int, int] | None]:
        return [_state(path) for path in self._signs]


def _state(path: Path) -> tuple[int, int] | None:
    try:
        found = path.stat()
    except OSError:
        return None
    return found.st_size, found.st_mtime_ns
