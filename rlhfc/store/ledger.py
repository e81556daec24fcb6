"""The ledger: an append-only record of runs, stages and attempts, one checked line each.

A line is ``{"crc": "<crc32 of the canonical entry>", "entry": {…}}``.
"""

from __future__ import annotations

import json
import os
import sys
import zlib
from collections.abc import Callable, Iterator
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from rlhfc.observe import LOOKED
from rlhfc.store.digest import canonical_json

Entry = dict[str, Any]


def utc_now() -> str:
    """Time in UTC to the millisecond, ISO 8601."""
    return datetime.now(UTC).isoformat(timespec="milliseconds")


class Ledger:
    """The ledger of one store. Entries carry ``event`` and ``time``; the rest goes by event."""

    def __init__(self, path: Path, warn: Callable[[str], None]) -> None:
        self._path = path
        self._warn = warn
        self._cache: tuple[tuple[int, int], list[Entry]] | None = None

    def append(self, event: str, **facts: Any) -> None:
        """Add one entry, in one write, durable on return.

        Raises:
            OSError: the disk is full or failing; what there may be of the line does not count.
        """
        entry: Entry = {"event": event, "time": utc_now(), **facts}
        line = json.dumps({"crc": _crc(entry), "entry": entry}, ensure_ascii=False, sort_keys=True)
        descriptor = os.open(self._path, os.O_RDWR | os.O_CREAT | os.O_APPEND, 0o644)
        try:
            torn = _ends_inside_a_line(descriptor)
            data = (("\n" if torn else "") + line + "\n").encode()
            while data:  # a disk that fills up takes a part, and refuses the rest only when asked again
                data = data[os.write(descriptor, data) :]
            os.fsync(descriptor)
        finally:
            os.close(descriptor)

    def read(self) -> list[Entry]:
        """All entries that are whole, oldest first; the others are named on stderr."""
        sys.audit(LOOKED, self._path)
        try:
            state = self._path.stat()
        except FileNotFoundError:
            return []
        stamp = (state.st_size, state.st_mtime_ns)
        if self._cache is None or self._cache[0] != stamp:
            self._cache = (stamp, list(self._parse()))
        return self._cache[1]

    def _parse(self) -> Iterator[Entry]:
        lines = self._path.read_bytes().split(b"\n")
        for number, line in enumerate(lines, start=1):
            if not line.strip():
                continue
            entry = _decode(line)
            if entry is None:
                self._warn(f"`{self._path}:{number}` is damaged; the line is skipped")
            else:
                yield entry


def _decode(line: bytes) -> Entry | None:
    try:
        document = json.loads(line)
        entry = document["entry"]
        whole = isinstance(entry, dict) and document["crc"] == _crc(entry)
    except (ValueError, KeyError, TypeError):
        return None
    return entry if whole else None


def _crc(entry: Entry) -> str:
    return f"{zlib.crc32(canonical_json(entry)):08x}"


def _ends_inside_a_line(descriptor: int) -> bool:
    """Whether a writer died between its first byte and its newline."""
    size = os.fstat(descriptor).st_size
    return size > 0 and os.pread(descriptor, 1, size - 1) != b"\n"
