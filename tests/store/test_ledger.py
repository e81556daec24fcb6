"""The ledger at scale: an index answers as the file would, and may go at any time."""

import json
import os
import sqlite3
import subprocess
import sys
import zlib
from pathlib import Path

import pytest
from test_store import KEY, OTHER, open_store

from rlhfc.store import ledger as ledger_module
from rlhfc.store import ledger_index
from rlhfc.store.digest import canonical_json
from rlhfc.store.ledger import Ledger
from rlhfc.store.ledger_lines import Made


@pytest.fixture
def path(tmp_path, monkeypatch) -> Path:
    """A ledger of three results, which counts as large."""
    monkeypatch.setattr(ledger_module, "INDEX_FROM", 1)
    path = tmp_path / "ledger.jsonl"
    writer = Ledger(path, print)
    writer.append("run", run="r", pipeline="p")
    for stage, key in (("a", KEY), ("b", OTHER), ("a", OTHER)):
        writer.append("published", run="r", pipeline="p", stage=stage, key=key)
    return path


def index(path: Path) -> Path:
    """Where the index lies."""
    return path.with_name("ledger-index.sqlite")


def answers(path: Path, said=None):
    """What a new process is told of one stage, and of all."""
    ledger = Ledger(path, (said if said is not None else []).append)
    return ledger.keys("p", "a"), ledger.made()


EXPECTED = ([KEY, OTHER], [Made("p", "a", KEY), Made("p", "b", OTHER), Made("p", "a", OTHER)])


def test_the_index_says_what_the_ledger_says(path, monkeypatch):
    """With and without an index the answers are the same; with one the ledger is not parsed again."""
    assert EXPECTED == answers(path)
    assert index(path).exists()
    monkeypatch.setattr(
        "rlhfc.store.ledger_lines.decode_line", lambda line: pytest.fail("it is parsed again")
    )
    assert EXPECTED == answers(path)
    monkeypatch.undo()
    assert EXPECTED == answers(path)


def test_what_is_appended_is_added(path):
    """An index that is there takes in new lines only."""
    answers(path)
    Ledger(path, print).append("cached", run="r2", pipeline="p", stage="a", key=KEY)
    assert [KEY, OTHER, KEY] == answers(path)[0]


@pytest.mark.parametrize(
    "how", ["deleted", "garbage", "empty", "a row", "another ledger", "cut off", "older"]
)
def test_an_index_that_does_not_fit_is_made_again(path, how):
    """Deleting or damaging it loses nothing, nor does a ledger that is not the one that was indexed."""
    assert EXPECTED == answers(path)
    place, expected = index(path), EXPECTED
    if how == "deleted":
        place.unlink()
    elif how in ("garbage", "empty"):
        place.write_bytes(b"garbage" * 1000 if how == "garbage" else b"")
    elif how in ("a row", "older"):
        with sqlite3.connect(place) as there:
            there.execute(
                "UPDATE made SET key = ?" if how == "a row" else "UPDATE mark SET format = ?", (KEY,)
            )
    elif how == "another ledger":
        data = path.read_bytes()
        path.unlink()
        path.write_bytes(b"\n" + data.replace(b'"a"', b'"x"'))
        expected = ([], [Made("p", "b", OTHER)])
    else:
        os.truncate(path, len(path.read_bytes().splitlines(keepends=True)[0]))
        expected = ([], [])
    assert expected == answers(path)
    assert ledger_index.is_true(path)


def test_an_index_that_lies_is_found_out(path):
    """An examination compares it with the ledger."""
    answers(path)
    made = Made("p", "a", OTHER)
    with sqlite3.connect(index(path)) as there:
        there.execute("UPDATE made SET key = ?, crc = ?", (OTHER, zlib.crc32("\0".join(made).encode())))
    assert not ledger_index.is_true(path)


def test_without_a_folder_for_an_index_the_ledger_is_read(path, monkeypatch):
    """On a network file system it lies in the user's cache folder, or nowhere."""
    monkeypatch.setattr(ledger_index, "file_system", lambda place: "nfs4")
    assert EXPECTED == answers(path)
    assert not index(path).exists()
    monkeypatch.setenv("XDG_CACHE_HOME", str(path.parent / "cache"))
    local = str(path.parent / "cache")
    monkeypatch.setattr(
        ledger_index, "file_system", lambda place: "ext4" if place.startswith(local) else "nfs4"
    )
    assert EXPECTED == answers(path)
    assert 1 == len(list((path.parent / "cache" / "rlhfc").iterdir()))


def test_damaged_lines_are_named_with_an_index(path):
    """As they are without one, by every process."""
    lines = path.read_bytes().splitlines(keepends=True)
    path.write_bytes(b"".join([*lines[:2], lines[2].replace(b'"b"', b'"x"'), lines[3]]))
    for _ in range(2):
        said: list[str] = []
        assert [Made("p", "a", KEY), Made("p", "a", OTHER)] == answers(path, said)[1]
        assert [f"`{path}:3` is damaged; the line is skipped"] * 2 == said


def test_lines_of_the_first_version_are_read(tmp_path):
    """They had white space in the entry, and the checksum of the entry without it."""
    entry = {"event": "run", "pipeline": "p", "seconds": 1e-7, "time": "t"}
    crc = f"{zlib.crc32(canonical_json(entry)):08x}"
    (tmp_path / "ledger.jsonl").write_text(json.dumps({"crc": crc, "entry": entry}, sort_keys=True) + "\n")
    assert [entry] == Ledger(tmp_path / "ledger.jsonl", print).read()


def test_a_reader_goes_on_where_it_was(tmp_path, monkeypatch):
    """What has been read once is not parsed again; a line that does not end yet is left for later."""
    store = open_store(tmp_path / "store")
    store.ledger.append("published", run="r", pipeline="p", stage="a", key=KEY)
    assert KEY == store.last_key("p", "a")
    parsed, real = [], ledger_module.read_on
    monkeypatch.setattr(
        ledger_module, "read_on", lambda path, mark: parsed.append(mark.offset) or real(path, mark)
    )
    with store.layout.ledger.open("ab") as stream:
        stream.write(b'{"crc": "00')
    assert KEY == store.last_key("p", "a")
    store.ledger.append("published", run="r", pipeline="p", stage="a", key=OTHER)
    assert OTHER == store.last_key("p", "a")
    assert all(parsed)


def test_a_plan_of_a_small_store_needs_no_sqlite(tmp_path):
    """Only a large ledger has SQLite imported."""
    store = open_store(tmp_path / "store")
    store.ledger.append("published", run="r", pipeline="p", stage="a", key=KEY)
    script = (
        "import sys; from pathlib import Path; from rlhfc.store.store import Store\n"
        "Store.open(Path(sys.argv[1])).last_key('p', 'a'); print('sqlite3' in sys.modules)"
    )
    done = subprocess.run(
        [sys.executable, "-c", script, str(tmp_path / "store")], capture_output=True, text=True
    )
    assert "False\n" == done.stdout
