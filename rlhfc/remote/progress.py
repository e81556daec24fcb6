"""How far a push or a pull has come: a line on stderr now and then, and sums in the end."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable

from rlhfc.plan.quantities import size

PERIOD_SECONDS = 5.0


class Tally:
    """Counts what has been moved, and what was there already. Safe for threads."""

    def __init__(
        self, say: Callable[[str], None] | None = None, clock: Callable[[], float] = time.monotonic
    ) -> None:
        self._lock = threading.Lock()
        self._say, self._clock = say, clock
        self._said = clock()
        self.moved = self.there = self.bytes = 0

    def add(self, count: int) -> None:
        """Note bytes that have been moved."""
        with self._lock:
            self.bytes += count
            now = self._clock()
            if self._say is not None and now - self._said >= PERIOD_SECONDS:
                self._said = now
                self._say(self.words())

    def done(self) -> None:
        """Note a file that has been moved."""
        with self._lock:
            self.moved += 1

    def skip(self) -> None:
        """Note a file that was there."""
        with self._lock:
            self.there += 1

    def words(self) -> str:
        """The sums."""
        files = f"{self.moved} file{'s' if self.moved != 1 else ''}"
        return f"{files}, {size(self.bytes)}; {self.there} there already"
