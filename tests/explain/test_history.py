"""``rlhfc history``, ``status`` and ``show``: runs, acceptances, stages, artefacts, also while they run."""

from __future__ import annotations

import json
import os
import re
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from alive import attempt_processes
from story import SPEC, Story

SLOW = ("--set", "second.steps=4000", "--set", "second.step_seconds=0.05")


@pytest.fixture
def going(story: Story) -> Iterator[subprocess.Popen[bytes]]:
    """A run whose second stage has taken a few steps; ended with the test."""
    command = [sys.executable, "-m", "rlhfc", "run", "pipe.yaml", "--quiet", *SLOW]
    process = subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    try:
        until(lambda: any(story.folder.glob(".rlhfc/work/second-*/attempts/001/metrics.jsonl")))
        yield process
    finally:
        process.kill()
        process.wait()
        until(lambda: not attempt_processes(story.folder))


def until(condition: Callable[[], bool], seconds: float = 30.0) -> None:
    """Wait until something is so."""
    deadline = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < deadline, "it did not come about"
        time.sleep(0.02)


def test_runs(story: Story) -> None:
    """Newest first: when, how it ended, and what ran for which reason; what was cached is counted."""
    assert ["no runs yet"] == story.lines("history")
    story.run()
    story.edit("value: 2", "value: 3")
    story.run()
    story.edit("value: 3", "value: 2")
    story.run()
    story.run()
    assert [
        "RUN0  just now  pipe  done in TIME  2 cached",
        "RUN1  just now  pipe  done in TIME  1 cached",
        "  second  done TIME  value 2 → 3",
        "RUN2  just now  pipe  done in TIME",
        "  first   done TIME  never run",
        "  second  done TIME  never run",
    ] == story.lines("history", "pipe.yaml")
    assert [
        "RUN0  just now  pipe  done in TIME  2 cached",
        "2 earlier: `-n 3` shows all",
    ] == story.lines("history", "-n", "1")


def test_runs_of_one_pipeline(story: Story) -> None:
    """A spec narrows the list to its pipeline."""
    story.run()
    other = story.folder / "other.yaml"
    other.write_text(SPEC.replace("value: 1,", "value: 7,"))
    assert ["no runs yet"] == story.lines("history", "other.yaml")


def test_acceptances(story: Story) -> None:
    """They stand among the runs: when, of which stage, the two keys, who and why; `-n` counts them."""
    story.run()
    story.edit("value: 2", "value: 3")
    story.type("accept", "pipe.yaml", "second", "--who", "Ada", "--why", "the same\nnumbers")
    story.edit("value: 1", "value: 4")
    story.run()
    runs = [line for line in story.lines("history", "pipe.yaml") if not line.startswith(" ")]
    assert [
        "RUN0  just now  pipe  done in TIME",
        "accepted  just now  pipe  second  DIGEST2 as DIGEST3  by Ada: the same numbers",
        "RUN1  just now  pipe  done in TIME",
    ] == runs
    assert "1 earlier: `-n 3` shows all" == story.lines("history", "-n", "2")[-1]
    document = json.loads(story.type("history", "--json", "-n", "2"))
    (accepted,) = document["acceptances"]
    before, after = accepted.pop("before"), accepted.pop("key")
    assert "T" in accepted.pop("time")
    assert {"pipeline": "pipe", "stage": "second", "who": "Ada", "why": "the same\nnumbers"} == accepted
    assert ("DIGEST2", "DIGEST3", 1) == (
        story.named(before[:11]),
        story.named(after[:11]),
        len(document["runs"]),
    )
    (story.folder / "other.yaml").write_text(SPEC)
    assert ["no runs yet"] == story.lines("history", "other.yaml")


def test_a_run_that_failed(story: Story) -> None:
    """Its stages say how they ended, blocked ones too; it is listed with the commit of its spec."""
    story.edit("value: 1,", "value: 1, behave: fail,")
    story.type("run", "pipe.yaml", "--quiet", status=1)
    assert [
        "RUN0 just now pipe failed in TIME",
        "first failed TIME never run",
        "second blocked never run",
    ] == [" ".join(line.split()) for line in story.lines("history")]


def test_the_commit_of_a_run(git: Callable[..., str], story: Story) -> None:
    """The ledger has it, so that a run can be traced to its spec."""
    (story.folder / ".gitignore").write_text(".rlhfc\n")
    git("add", ".")
    git("commit", "-q", "-m", "one")
    story.run()
    story.edit("value: 2", "value: 3")
    story.run()
    commit = git("rev-parse", "HEAD")
    second, first = json.loads(story.type("history", "--json"))["runs"]
    assert [{"id": commit, "dirty": dirty, "branch": "main"} for dirty in (True, False)] == [
        second["commit"],
        first["commit"],
    ]
    assert f"just now  pipe  {commit[:7]} (dirty)  done in TIME  1 cached" == story.lines("history")[0][6:]
    assert ["stage", "state", "seconds", "reasons"] == list(second["stages"][0])


def test_a_count_that_shows_nothing(story: Story) -> None:
    """It is refused."""
    assert "error: `-n 0` is no count\nhint: give 1 or more\n" == story.refused("history", "-n", "0")


def test_stages_of_a_run_that_goes_on(going: subprocess.Popen[bytes], story: Story) -> None:
    """A running stage has its step and the last one; after its run was killed it is told as dead."""
    header, first, second = story.lines("status", "pipe.yaml", *SLOW)
    assert (
        ["stage", "kind", "state", "last", "attempt", "figures"],
        ["first", "toy", "cached", "done", "TIME", "value", "1"],
        ["second", "toy", "running", "N/4000", "running"],
    ) == (header.split(), first.split(), re.sub(r"\d+/", "N/", second).split())
    stage = json.loads(story.type("status", "pipe.yaml", "--json", *SLOW))["stages"][1]
    assert ("running", 4000, True) == (
        stage["state"],
        stage["progress"]["total"],
        stage["progress"]["step"] > 0,
    )
    assert [
        "RUN0  just now  pipe  running",
        "  first  done TIME",
    ] == story.lines("history")
    os.kill(going.pid, signal.SIGKILL)
    going.wait()
    until(lambda: not attempt_processes(story.folder))
    assert "RUN0  just now  pipe  lost" == story.lines("history")[0]
    assert "died with its run" in story.lines("status", "pipe.yaml", *SLOW)[2]


def test_status_of_what_never_ran(story: Story) -> None:
    """The table needs no store."""
    assert [
        "stage   kind  state  last attempt  figures",
        "first   toy   run",
        "second  toy   run",
    ] == story.lines("status", "pipe.yaml")


def test_artefacts_of_a_stage(story: Story) -> None:
    """Each output with its size, and a folder that is there to be read."""
    story.run()
    lines = story.lines("show", "pipe.yaml", "second")
    (artefact,) = (line for line in lines if line.startswith("artefact"))
    found = re.fullmatch(r"artefact  thing \(6 B in 1 file, (DIGEST\d)\) (\S+)", artefact)
    assert found is not None
    assert ["data.txt"] == [path.name for path in Path(found[2]).iterdir()]


def test_show_needs_a_stage(story: Story) -> None:
    """The overview is `status`, and nothing else."""
    assert (
        "error: the following arguments are required: STAGE\nhint: see `rlhfc show --help`\n"
        == story.refused("show", "pipe.yaml")
    )
