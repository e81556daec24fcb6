"""The ledger: an append-only record of runs, stages and attempts, one checked line each.

A line is ``{"crc": "<crc32 of the canonical entry>", "entry": <canonical entry>}``. The file is the
truth; a large one has an index beside it (``ledger_index.py``) that may be deleted at any time.
"""

from __future__ import annotations

import os
import sys
import threading
from collections.abc import Callable
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from rlhfc.observe import LOOKED
from rlhfc.store.ledger_lines import START, Entry, Made, encode_line, made_in, read_on

INDEX_FROM = 2 * 1024 * 1024  # reading less than this is quicker than asking an index


def utc_now() -> str:
    """Time in UTC to the millisecond, ISO 8601."""
    return datetime.now(UTC).isoformat(timespec="milliseconds")


class Ledger:
    """The ledger of one store. Entries carry ``event`` and ``time``; the rest goes by event.

    Safe for threads. What has been read once is not read again, but what has been added since.
    """

    def __init__(self, path: Path, warn: Callable[[str], None]) -> None:
        self._path = path
        self._warn = warn
        self._lock = threading.Lock()
        self._mark = START
        self._entries: list[Entry] = []
        self._made: list[Made] = []
        self._keys: dict[tuple[str, str], list[str]] = {}

    def append(self, event: str, **facts: Any) -> None:
        """Add one entry, in one write, durable on return.

        Raises:
            OSError: the disk is full or failing; what there may be of the line does not count.
        """
        line = encode_line({"event": event, "time": utc_now(), **facts})
        descriptor = os.open(self._path, os.O_RDWR | os.O_CREAT | os.O_APPEND, 0o644)
        try:
            torn = _ends_inside_a_line(descriptor)
            data = (b"\n" if torn else b"") + line
            while data:  # a disk that fills up takes a part, and refuses the rest only when asked again
                data = data[os.write(descriptor, data) :]
            os.fsync(descriptor)
        finally:
            os.close(descriptor)

    def read(self) -> list[Entry]:
        """All entries that are whole, oldest first; the others are named on stderr."""
        with self._lock:
            self._read_on()
            return list(self._entries)

    def keys(self, pipeline: str, stage: str) -> list[str]:
        """Keys under which a stage was made or found whole in a pipeline, oldest first."""
        found = self._ask_index(pipeline, stage)
        if found is not None:
            return [made.key for made in found]
        with self._lock:
            self._read_on()
            return list(self._keys.get((pipeline, stage), []))

    def made(self) -> list[Made]:
        """Every result that was made or found whole, oldest first."""
        found = self._ask_index()
        if found is not None:
            return found
        with self._lock:
            self._read_on()
            return list(self._made)

    def _ask_index(self, *stage: str) -> list[Made] | None:
        """What the index says of a stage, or of all; None where there is none, or it is not to be trusted."""
        sys.audit(LOOKED, self._path)
        try:
            if self._entries or self._path.stat().st_size < INDEX_FROM:
                return None
        except FileNotFoundError:
            return None
        from rlhfc.store.ledger_index import ask  # SQLite: only where there is much to ask

        return ask(self._path, stage, self._tell_damaged)

    def _read_on(self) -> None:
        """Read what has been added; all of it when the file is not the one that was read before."""
        sys.audit(LOOKED, self._path)
        try:
            found = read_on(self._path, self._mark)
            if found is None:
                self._entries, self._made, self._keys = [], [], {}
                found = read_on(self._path, START)
        except FileNotFoundError:
            self._mark, self._entries, self._made, self._keys = START, [], [], {}
            return
        if found is None:  # it is being replaced at this moment
            return
        self._mark = found.mark
        self._tell_damaged(found.damaged)
        for entry in found.entries:
            self._entries.append(entry)
            made = made_in(entry)
            if made is not None:
                self._made.append(made)
                self._keys.setdefault((made.pipeline, made.stage), []).append(made.key)

    def _tell_damaged(self, lines: list[int]) -> None:
        for number in lines:
            self._warn(f"`{self._path}:{number}` is damaged; the line is skipped")


def _ends_inside_a_line(descriptor: int) -> bool:
    """Whether a writer died between its first byte and its newline."""
    size = os.fstat(descriptor).st_size
    return size > 0 and os.pread(descriptor, 1, size - 1) != b"\n"
