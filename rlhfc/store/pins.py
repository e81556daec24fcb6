"""Pins: what a living run uses, so that nobody removes it. One file for each run, gone when it ends."""

from __future__ import annotations

import json
import threading
import time
from collections.abc import Iterable, Iterator, Mapping
from contextlib import suppress
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from rlhfc.store.files import unique_name
from rlhfc.store.holder import Holder
from rlhfc.store.layout import Layout
from rlhfc.store.locks import Locks

BEAT_SECONDS = 60.0
SILENT_SECONDS = 24 * 3600.0
"""After which the run of another machine counts as dead, by the store's own clock."""


@dataclass(frozen=True)
class Pin:
    """What one run uses.

    Attributes:
        holder: the run, or None where the file is damaged.
        keys: action keys, those too of results that are yet to be made.
        trees: tree digests; a result that was replaced is known by them only.
    """

    path: Path
    holder: Holder | None
    keys: frozenset[str]
    trees: frozenset[str]

    def lives(self, now: float) -> bool:
        """Whether the run may still be going on.

        Args:
            now: seconds since the epoch, by the clock of the store's file system.
        """
        if self.holder is not None and self.holder.is_here:
            return not self.holder.is_dead
        with suppress(FileNotFoundError):
            return now - self.path.stat().st_mtime < SILENT_SECONDS
        return False


class Pins:
    """The pins of one run. Safe for threads."""

    def __init__(self, layout: Layout, locks: Locks, holder: Holder) -> None:
        self._layout, self._locks, self._holder = layout, locks, holder
        self._path = layout.pins / f"{holder.host.partition(' ')[0]}-{unique_name()}.json"
        self._keys: set[str] = set()
        self._trees: set[str] = set()
        self._writing = threading.Lock()
        self._beaten = time.monotonic()

    def keep(self, key: str, trees: Iterable[str] = ()) -> None:
        """Keep what is, or will be, under a key, and these trees. What was found before may be gone."""
        with self._writing:
            fresh = {*trees} - self._trees
            if key in self._keys and not fresh:
                return
            self._keys.add(key)
            self._trees |= fresh
            # A full disk, for lease or pin, is told by what the run makes, which will not fit either.
            with suppress(OSError), self._locks.sharing():
                self._write()

    def drop(self) -> None:
        """Keep nothing any more."""
        self._path.unlink(missing_ok=True)

    def beat(self) -> None:
        """Show that the run lives; often enough at any distance in time below a minute."""
        if time.monotonic() - self._beaten > BEAT_SECONDS:
            self._beaten = time.monotonic()
            with self._writing, suppress(OSError):
                if self._keys:
                    self._write()

    def _write(self) -> None:
        text = {"holder": asdict(self._holder), "keys": sorted(self._keys), "trees": sorted(self._trees)}
        draft = self._layout.scratch / unique_name()
        try:
            draft.write_text(json.dumps(text))  # not synced: with the machine the run dies too
            draft.replace(self._path)
        finally:
            draft.unlink(missing_ok=True)


def read_pins(layout: Layout) -> Iterator[Pin]:
    """All pins of a store, those of dead runs too."""
    with suppress(FileNotFoundError):
        for path in sorted(layout.pins.glob("*.json")):
            with suppress(FileNotFoundError):
                yield _read(path)


def _read(path: Path) -> Pin:
    try:
        text: Mapping[str, Any] = json.loads(path.read_bytes())
        holder = Holder.read(text["holder"])
        return Pin(path, holder, frozenset(text["keys"]), frozenset(text["trees"]))
    except (ValueError, KeyError, TypeError):
        return Pin(path, None, frozenset(), frozenset())
