"""The lines of a ledger: how one is written and checked, and how far a reader has come."""

from __future__ import annotations

import json
import os
import zlib
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, NamedTuple

from rlhfc.store.digest import canonical_json

Entry = dict[str, Any]
HEAD = b'{"crc": "'
BODY = b'", "entry": '
DIGITS = 8
ENTRY_AT = len(HEAD) + DIGITS + len(BODY)
TAIL_BYTES = 4096
DONE_EVENTS = ("published", "cached", "accepted")


class Made(NamedTuple):
    """A result that was made, or found whole, in a run."""

    pipeline: str
    stage: str
    key: str


def made_in(entry: Entry) -> Made | None:
    """The result that an entry tells of, if it does."""
    if entry["event"] not in DONE_EVENTS:
        return None
    return Made(entry["pipeline"], entry["stage"], entry["key"])


@dataclass(frozen=True)
class Mark:
    """How far a ledger has been read, and how it is known again.

    Attributes:
        inode: of the file.
        offset: bytes that have been read, up to the end of a line.
        lines: that many.
        crc: checksum of the last bytes before ``offset``.
    """

    inode: int
    offset: int
    lines: int
    crc: int


START = Mark(0, 0, 0, 0)


@dataclass
class Read:
    """What follows a mark.

    Attributes:
        mark: where the next reader goes on.
        entries: the lines that are whole.
        damaged: numbers of those that are not.
    """

    mark: Mark
    entries: list[Entry] = field(default_factory=list)
    damaged: list[int] = field(default_factory=list)


def encode_line(entry: Entry) -> bytes:
    """Write an entry as a line.

    Raises:
        TypeError, ValueError: it is not plain JSON.
    """
    text = canonical_json(entry)
    return HEAD + _crc(text) + BODY + text + b"}\n"


def decode_line(line: bytes) -> Entry | None:
    """Read a line back; None when it is damaged."""
    text = line[ENTRY_AT:-1]
    try:
        if _crc(text) == line[len(HEAD) : len(HEAD) + DIGITS]:
            entry = json.loads(text)
            crc = _crc(text).decode()
        else:  # an older rlhfc wrote the entry with white space
            document = json.loads(line)
            entry, crc = document["entry"], document["crc"]
            if crc != _crc(canonical_json(entry)).decode():
                return None
    except (ValueError, KeyError, TypeError):
        return None
    return entry if isinstance(entry, dict) and isinstance(entry.get("event"), str) else None


def read_on(path: Path, mark: Mark) -> Read | None:
    """Read the whole lines after a mark; None when the file before it is not the one that was read.

    A line that does not end yet is left for the next reader: somebody may be writing it.

    Raises:
        OSError: it cannot be read.
    """
    with path.open("rb") as stream:
        state = os.fstat(stream.fileno())
        if mark.offset and (state.st_ino != mark.inode or _tail_crc(path, mark.offset) != mark.crc):
            return None
        stream.seek(mark.offset)
        data = stream.read()
    end = data.rfind(b"\n") + 1
    found = Read(mark)
    lines = data[:end].split(b"\n")[:-1]
    for number, line in enumerate(lines, start=mark.lines + 1):
        entry = decode_line(line) if line.strip() else None
        if entry is not None:
            found.entries.append(entry)
        elif line.strip():
            found.damaged.append(number)
    if lines:
        offset = mark.offset + end
        crc = (
            zlib.crc32(data[max(0, end - TAIL_BYTES) : end]) if end >= TAIL_BYTES else _tail_crc(path, offset)
        )
        found.mark = Mark(state.st_ino, offset, mark.lines + len(lines), crc)
    return found


def _tail_crc(path: Path, offset: int) -> int:
    with path.open("rb") as stream:
        stream.seek(max(0, offset - TAIL_BYTES))
        return zlib.crc32(stream.read(min(TAIL_BYTES, offset)))


def _crc(text: bytes) -> bytes:
    return b"%08x" % zlib.crc32(text)
