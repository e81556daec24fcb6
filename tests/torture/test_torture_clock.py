"""T-CLOCK: edits that no time stamp tells of, files from the future, clocks that jump: never a false hit.

tests/compile/test_stat_cache.py and tests/plan/test_memo.py have the two caches by themselves; here is the
whole command, with both, and every edit keeps the size.
"""

import json
import os
import shutil
import subprocess
import sys
import time
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest
from lab import DATA, KINDS, Lab
from warm import Done

from rlhfc.run.attempt import Status
from rlhfc.store.store import Store

OTHER = DATA.replace("time", "tide")
DAYS = 2 * 86_400
SECOND = 10**9
YOUNG_SECONDS = 2.1  # what is younger is in neither cache


def overwrite(path: Path, text: str) -> None:
    """In place: the inode stays."""
    with path.open("r+") as stream:
        stream.write(text)


def keep_time(path: Path, text: str) -> None:
    """As an editor and `touch -d`: the old modification time is set again."""
    before = path.stat()
    overwrite(path, text)
    os.utime(path, ns=(before.st_atime_ns, before.st_mtime_ns))


def replace(path: Path, text: str) -> None:
    """As `cp -p` and `rsync -t`: another file with the same modification time takes the name."""
    other, before = path.with_name("other.new"), path.stat()
    other.write_text(text)
    os.utime(other, ns=(before.st_atime_ns, before.st_mtime_ns))
    other.replace(path)


def whole_seconds(path: Path, text: str) -> None:
    """As on a file system that counts whole seconds."""
    keep_time(path, text)
    os.utime(path, ns=(path.stat().st_atime_ns, path.stat().st_mtime_ns // SECOND * SECOND))


EDITS = [overwrite, keep_time, replace, whole_seconds]


def verdicts(lab: Lab) -> list[str]:
    """Verdict of each stage, as plan says it now and once more."""
    first = [stage["verdict"] for stage in lab.plan().values()]
    assert first == [stage["verdict"] for stage in lab.plan().values()]
    return first


def is_cached(lab: Lab) -> bool:
    """Whether nothing is to be done."""
    return verdicts(lab) == ["cached"] * 4


@pytest.mark.parametrize(("edit", "ahead"), [*((edit, 0) for edit in EDITS), (keep_time, DAYS)])
def test_same_size_edit_of_data(lab, edit, ahead):
    """Whatever the edit does to the time stamps, the stage runs; the old bytes are cached again."""
    data = lab.folder / "data" / "text"
    os.utime(data, ns=(time.time_ns() + ahead * SECOND,) * 2)
    assert 0 == lab.rlhfc("run").status
    time.sleep(YOUNG_SECONDS)
    assert is_cached(lab)
    edit(data, OTHER)
    assert "run" == verdicts(lab)[0]
    edit(data, DATA)
    assert is_cached(lab)
    edit(data, OTHER)
    lab.data = OTHER
    assert lab.trees() == lab.outputs(lab.rlhfc("run", "--json"))


def test_same_second_edit_right_after_a_run(lab):
    """An edit within the time stamp of what was just hashed is seen, although no cache can tell."""
    data = lab.folder / "data" / "text"
    for text in (OTHER, DATA, OTHER):
        assert 0 == lab.rlhfc("run").status
        whole_seconds(data, text)
        lab.data = text
        assert lab.trees() == lab.outputs(lab.rlhfc("run", "--json"))


@pytest.mark.parametrize("edit", [keep_time, replace])
def test_same_size_edit_of_code(lab, edit):
    """Code of a stage is as much of its key as data."""
    shutil.copytree(KINDS, lab.folder / "kinds")
    spec, main = lab.folder / "lab.yaml", lab.folder / "kinds" / "step" / "main.py"
    spec.write_text(spec.read_text().replace(str(KINDS), "kinds"))
    assert 0 == lab.rlhfc("run").status
    time.sleep(YOUNG_SECONDS)
    assert is_cached(lab)
    edit(main, main.read_text().replace("state of", "State of"))
    assert "run" == verdicts(lab)[0]


def test_run_that_ends_before_it_began():
    """A clock that is set back while a stage runs makes no time below zero."""
    began, ended = "2026-03-03T10:00:00.000+00:00", "2026-03-01T10:00:00.000+00:00"
    status = Status("p", "s", "b3:00", "r", "done", started=began, ended=ended)
    assert 0.0 == status.seconds


CLOCK = """
import datetime, sys, time
off = datetime.timedelta(days=int(sys.argv.pop(1)))
class Clock(datetime.datetime):
    @classmethod
    def now(cls, tz=None):
        return super().now(tz) + off
seconds, nanoseconds = time.time, time.time_ns
time.time = lambda: seconds() + off.total_seconds()
time.time_ns = lambda: nanoseconds() + int(off.total_seconds()) * 10**9
datetime.datetime = Clock
from rlhfc.cli.main import main
sys.exit(main())
"""


def test_clock_that_jumps_between_commands(lab):
    """Days back and forth between commands: nothing runs again, every edit is seen, no time is below zero."""
    data = lab.folder / "data" / "text"
    for days in (-2, 2):
        done = under(days, lab)
        assert lab.trees() == lab.outputs(done)
        *_, last = Store.open(lab.store).ledger.read()
        said = datetime.fromisoformat(last["time"]) - datetime.now(UTC)
        assert timedelta(days=days) == timedelta(days=round(said / timedelta(days=1)))
        again = json.loads(under(0, lab).out)
        assert again["nothing_to_do"]
        keep_time(data, OTHER if lab.data == DATA else DATA)
        lab.data = data.read_text()
        assert all(stage["seconds"] >= 0 for stage in again["stages"])
    assert lab.trees() == lab.outputs(under(0, lab))


def under(days: int, lab: Lab) -> Done:
    """Run in a process whose clock is days off; that of the kernel, which stamps files, is right."""
    command = [sys.executable, "-c", CLOCK, str(days), "run", "lab.yaml", "--json", "--store", str(lab.store)]
    done = subprocess.run(command, cwd=lab.folder, capture_output=True, text=True, check=False)
    assert 0 == done.returncode, done.stderr
    return Done(done.returncode, done.stdout, done.stderr, None, None)
