"""A place that is asked again when it could not be used just now."""

from __future__ import annotations

import random
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import TypeVar

from rlhfc.remote.place import PassingError, Place

TRIES = 4
FIRST_WAIT_SECONDS = 0.5
T = TypeVar("T")


class SteadyPlace:
    """Passes everything on, and tries again with growing pauses. See :class:`rlhfc.remote.place.Place`."""

    def __init__(self, place: Place, sleep: Callable[[float], None] = time.sleep) -> None:
        self.name = place.name
        self._place = place
        self._sleep = sleep

    def read(self, path: str, start: int, end: int) -> bytes:
        """See :class:`rlhfc.remote.place.Place`."""
        return self._try(lambda: self._place.read(path, start, end))

    def size(self, path: str) -> int | None:
        """See :class:`rlhfc.remote.place.Place`."""
        return self._try(lambda: self._place.size(path))

    def send(self, source: Path, path: str) -> None:
        """See :class:`rlhfc.remote.place.Place`."""
        self._try(lambda: self._place.send(source, path))

    def create(self, path: str, data: bytes) -> bool:
        """See :class:`rlhfc.remote.place.Place`; False also when our own first try got there unanswered."""
        return self._try(lambda: self._place.create(path, data))

    def replace(self, path: str, data: bytes) -> None:
        """See :class:`rlhfc.remote.place.Place`."""
        self._try(lambda: self._place.replace(path, data))

    def names(self, folder: str) -> Iterator[str]:
        """See :class:`rlhfc.remote.place.Place`."""
        yield from self._try(lambda: list(self._place.names(folder)))

    def _try(self, action: Callable[[], T]) -> T:
        for tried in range(1, TRIES):
            try:
                return action()
            except PassingError:
                pause = FIRST_WAIT_SECONDS * 2 ** (tried - 1)
                self._sleep(pause * random.uniform(0.5, 1.5))  # many machines shall not ask in step
        return action()
