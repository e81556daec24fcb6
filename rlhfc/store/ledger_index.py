"""An index of a large ledger in SQLite: which results each stage has come to. Disposable.

It lies beside the ledger, or in the user's cache folder where the store's file system is none that
SQLite can trust. It is known to be of this ledger by inode, length and a checksum of the last bytes
that were read; whatever does not fit has it made again, and without one the ledger itself is read.
"""

from __future__ import annotations

import sqlite3
import zlib
from collections.abc import Callable, Sequence
from contextlib import closing
from dataclasses import astuple
from pathlib import Path
from urllib.parse import quote

from rlhfc.environment import read_environment
from rlhfc.filesystems import believable, file_system
from rlhfc.store.ledger_lines import START, Made, Mark, made_in, read_on

FORMAT = 1
SUFFIX = "-index.sqlite"
BUSY_SECONDS = 5.0
SCHEMA = """
CREATE TABLE mark (format, inode, offset, lines, crc);
CREATE TABLE damaged (line);
CREATE TABLE made (place INTEGER PRIMARY KEY, pipeline, stage, key, crc);
CREATE INDEX by_stage ON made (pipeline, stage, place);
"""


def ask(ledger: Path, stage: Sequence[str], tell_damaged: Callable[[list[int]], None]) -> list[Made] | None:
    """Results of a stage (names of pipeline and stage), or of all stages when it is empty, oldest first.

    Args:
        ledger: the file that is indexed.
        stage: whose results.
        tell_damaged: takes the numbers of damaged lines.

    Returns:
        None when there can be no index: no folder for it, or SQLite refuses.
    """
    place = index_place(ledger)
    if place is None:
        return None
    for _ in range(2):  # what does not fit is made again, once
        try:
            with closing(sqlite3.connect(place, timeout=BUSY_SECONDS)) as index, index:
                damaged = _bring_up(index, ledger)
                found = _rows(index, stage)
        except sqlite3.OperationalError:
            return None  # locked, or cannot be written
        except (sqlite3.DatabaseError, _UntrueError):
            place.unlink(missing_ok=True)
        else:
            tell_damaged(damaged)
            return found
    return None


def index_place(ledger: Path) -> Path | None:
    """Where the index of a ledger lies; None where no local folder can have it."""
    beside = ledger.with_name(ledger.stem + SUFFIX)
    if believable(file_system(str(ledger.parent))):
        return beside
    folder = read_environment().index_folder
    try:
        folder.mkdir(parents=True, exist_ok=True)
    except OSError:
        return None
    if not believable(file_system(str(folder))):
        return None
    return folder / f"{ledger.stem}-{zlib.crc32(str(ledger.resolve()).encode()):08x}{SUFFIX}"


def is_true(ledger: Path) -> bool:
    """Whether the index of a ledger, if it has one, says what the ledger says.

    Raises:
        OSError: the ledger cannot be read.
    """
    place = index_place(ledger)
    if place is None or not place.exists():
        return True
    found = read_on(ledger, START)
    assert found is not None  # nothing comes before the start
    expected = [made for made in map(made_in, found.entries) if made is not None]
    try:
        with closing(sqlite3.connect(f"file:{quote(str(place))}?mode=ro", uri=True)) as index:
            (verdict,) = index.execute("PRAGMA integrity_check").fetchone()
            rows = _rows(index, ())
            _, *mark = index.execute("SELECT * FROM mark").fetchone()
    except sqlite3.OperationalError:
        return True  # being made by somebody
    except (sqlite3.DatabaseError, _UntrueError, TypeError):
        return False
    there = rows == expected[: len(rows)]
    return verdict == "ok" and there and (Mark(*mark) != found.mark or len(rows) == len(expected))


class _UntrueError(Exception):
    """The index does not say what was written into it, or is of another ledger."""


def _bring_up(index: sqlite3.Connection, ledger: Path) -> list[int]:
    """Add what the ledger has got since; return the numbers of all damaged lines."""
    index.execute("BEGIN IMMEDIATE")
    if not index.execute("SELECT count(*) FROM sqlite_master").fetchone()[0]:
        for statement in SCHEMA.split(";"):
            index.execute(statement)
        index.execute("INSERT INTO mark VALUES (?, ?, ?, ?, ?)", (FORMAT, *astuple(START)))
    form, *mark = index.execute("SELECT * FROM mark").fetchone() or (None,)
    if form != FORMAT:
        raise _UntrueError
    found = read_on(ledger, Mark(*mark))
    if found is None:
        raise _UntrueError
    if found.mark != Mark(*mark):
        rows = (made for made in map(made_in, found.entries) if made is not None)
        index.executemany(
            "INSERT INTO made (pipeline, stage, key, crc) VALUES (?, ?, ?, ?)",
            ((*made, _crc(made)) for made in rows),
        )
        index.executemany("INSERT INTO damaged VALUES (?)", ((line,) for line in found.damaged))
        index.execute("UPDATE mark SET inode = ?, offset = ?, lines = ?, crc = ?", astuple(found.mark))
    return [line for (line,) in index.execute("SELECT line FROM damaged ORDER BY line")]


def _rows(index: sqlite3.Connection, stage: Sequence[str]) -> list[Made]:
    where = " WHERE pipeline = ? AND stage = ?" if stage else ""
    found = []
    for *names, crc in index.execute(
        f"SELECT pipeline, stage, key, crc FROM made{where} ORDER BY place", stage
    ):
        made = Made(*names)
        if crc != _crc(made):
            raise _UntrueError
        found.append(made)
    return found


def _crc(made: Made) -> int:
    return zlib.crc32("\0".join(made).encode())
