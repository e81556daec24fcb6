"""How a stage meets what runs it: signs of life, stacks, logs of ranks, and how it says what went wrong."""

import errno
import json
import os
import signal
import subprocess
import sys
import time

import pytest
import torch
from rlhfc.stages.common.job import Heartbeat, status_of

from rlhfc.run import guard

STAGE = """
import os, sys, time
from rlhfc.kind import Kind, StageParams
from rlhfc.stages.common.job import run_stage
KIND = Kind(name="x", abi=1, params=StageParams, inputs={}, outputs={})
def body(job):
    exec(job.params.description)
run_stage(KIND, StageParams, body)
"""


def start(folder, code: str, **variables: str) -> subprocess.Popen:
    """Start a stage whose body is some lines of Python."""
    config = {
        "format": 1, "kind": "x", "stage": "x", "action_key": "b3:0", "params": {"description": code},
        "settings": {}, "inputs": {}, "outputs": {}, "deepspeed": {}, "batch": None,
        "paths": {"attempt": str(folder)},
    }  # fmt: skip
    (folder / "config.json").write_text(json.dumps(config))
    return subprocess.Popen(
        [sys.executable, "-c", STAGE, "--config", str(folder / "config.json")],
        env={**os.environ, **variables},
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )


@pytest.mark.parametrize(
    ("code", "status"),
    [
        ("raise MemoryError", 76),
        ("raise OSError(28, 'No space left on device', 'state')", 74),
        ("raise OSError(5, 'Input/output error')", 1),
        ("raise KeyError('x')", 1),
        ("pass", 0),
    ],
)
def test_exit_statuses(tmp_path, code, status):
    """A lack of memory is 76, of disk space 74; each keeps its traceback, as every other error does."""
    process = start(tmp_path, code)
    _, err = process.communicate(timeout=60)
    assert (status, status != 0) == (process.returncode, "Traceback" in err)


@pytest.mark.parametrize(
    ("error", "status"),
    [
        (torch.OutOfMemoryError("CUDA out of memory. Tried to allocate"), 76),
        (RuntimeError("[enforce fail] DefaultCPUAllocator: can't allocate memory: you tried"), 76),
        (RuntimeError("CUDA error: CUBLAS_STATUS_ALLOC_FAILED when calling"), 76),
        (RuntimeError("shapes do not fit"), None),
        (OSError(errno.EDQUOT, "Disk quota exceeded"), 74),
    ],
)
def test_torchs_ways_to_run_out_of_memory(error, status):
    """The accelerator's error, the CPU allocator's and the libraries' are told as one."""
    assert status == status_of(error)


def test_a_stage_shows_its_stacks_when_asked(tmp_path):
    """SIGUSR1 has every thread write down where it is, also while C code waits; the stage goes on."""
    process = start(tmp_path, "print('here', flush=True)\ntime.sleep(2)")
    assert process.stdout.readline() == "here\n"
    process.send_signal(signal.SIGUSR1)
    _, err = process.communicate(timeout=60)
    assert 0 == process.returncode
    assert "in body" in err


def test_each_rank_speaks_into_the_pipe_it_is_given(tmp_path):
    """What rank 1 says on either stream, and below Python, comes out of its own pipe."""
    reader, writer = os.pipe()
    code = "print('out')\nprint('err', file=sys.stderr)\nsys.stdout.flush()\nos.system('echo child')"
    process = start(
        tmp_path, code, RANK="1", **{guard.RANK_STREAMS: f"/none:/proc/{os.getpid()}/fd/{writer}"}
    )
    out, err = process.communicate(timeout=60)
    os.close(writer)
    assert ("", "") == (out, err)
    assert b"err\nout\nchild\n" == b"".join(sorted_err_first(os.read(reader, 100)))


def sorted_err_first(data: bytes) -> list[bytes]:
    """Lines with the unbuffered stream's first."""
    return sorted(data.splitlines(keepends=True), key=lambda line: line != b"err\n")


def test_a_pipe_that_cannot_be_opened_is_done_without(tmp_path):
    """Then the rank speaks into the common log."""
    process = start(tmp_path, "print('out')", RANK="0", **{guard.RANK_STREAMS: "/no/such/pipe"})
    assert ("out\n", "") == process.communicate(timeout=60)


def test_a_heart_beats_once_a_second_at_most(tmp_path, monkeypatch):
    """The first beat makes the file; those within a second of it touch nothing."""
    now = [100.0]
    monkeypatch.setattr(time, "monotonic", lambda: now[0])
    heart, path = Heartbeat(), tmp_path / "heartbeat"
    touched = []
    for moment in (100.0, 100.9, 101.0, 101.5, 102.5):
        now[0] = moment
        path.unlink(missing_ok=True)
        heart.beat(path)
        touched.append(path.exists())
    assert [True, False, True, False, True] == touched
    heart.beat(tmp_path / "missing" / "heartbeat")
