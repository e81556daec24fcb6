"""rlhfc commands out of a warm process: it has imported everything, and forks for each command.

Started as ``python warm.py``; a request is a JSON line on stdin, its answer one on stdout. That spares the
half second of imports for each of thousands of commands, and lets a fault be counted from the first call
of the command on.
"""

from __future__ import annotations

import contextlib
import importlib
import io
import json
import os
import select
import signal
import subprocess
import sys
import time
import traceback
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from faults import Fault, Shim

PATIENCE_SECONDS = 120.0


@dataclass(frozen=True)
class Done:
    """How a command ended.

    Attributes:
        status: exit status; below zero the signal; None when it had to be ended because it hung.
        out: what it printed.
        err: what it said on stderr.
        calls: how many calls it made that its fault counts; None when it was killed.
        fault: the call that the fault has hit, or None.
    """

    status: int | None
    out: str
    err: str
    calls: int | None
    fault: str | None


class Warm:
    """A warm process. Not for several threads at once."""

    def __init__(self) -> None:
        self._server = subprocess.Popen(
            [sys.executable, __file__], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
        )

    def run(
        self,
        argv: list[str],
        folder: Path,
        fault: Fault | None = None,
        variables: Mapping[str, str] | None = None,
        kill_after: float | None = None,
    ) -> Done:
        """Run ``rlhfc ARGV`` in a folder and wait for its end.

        Args:
            argv: arguments.
            folder: where; gets files with both outputs.
            fault: what shall happen to it.
            variables: on top of our environment.
            kill_after: seconds after which it gets SIGKILL.
        """
        request = {
            "argv": argv,
            "folder": str(folder),
            "fault": asdict(fault) if fault else None,
            "variables": dict(variables or {}),
            "kill_after": kill_after,
        }
        assert self._server.stdin is not None
        assert self._server.stdout is not None
        self._server.stdin.write(json.dumps(request) + "\n")
        self._server.stdin.flush()
        answer = json.loads(self._server.stdout.readline())
        texts = ((folder / name).read_text(errors="replace") for name in ("said.out", "said.err"))
        return Done(answer["status"], *texts, answer["calls"], answer["fault"])

    def close(self) -> None:
        """End the process."""
        assert self._server.stdin is not None
        self._server.stdin.close()
        self._server.wait()


def serve() -> None:
    """Answer requests until the input ends."""
    _import_all()
    for line in sys.stdin:
        print(json.dumps(_answer(json.loads(line))), flush=True)


def _import_all() -> None:
    from rlhfc.cli.main import COMMANDS

    for command in COMMANDS.values():
        importlib.import_module(command.module)
    for name in ("rlhfc.cli.afresh", "rlhfc.report.write", "rlhfc.plan.rendering", "rlhfc.run.attempt"):
        importlib.import_module(name)


def _answer(request: dict[str, Any]) -> dict[str, Any]:
    ours, theirs = os.pipe()
    child = os.fork()
    if child == 0:
        os.close(ours)
        os._exit(_command(request, theirs))
    os.close(theirs)
    status = _wait(child, request["kill_after"])
    said = b""
    while piece := os.read(ours, 65536):
        said += piece
    os.close(ours)
    told = dict(line.split(" ", 1) for line in said.decode().splitlines())
    return {
        "status": status,
        "calls": int(told["calls"]) if "calls" in told else None,
        "fault": told.get("fault"),
    }


def _command(request: dict[str, Any], report: int) -> int:
    """What the forked process does; returns its exit status."""
    write = os.write
    os.set_inheritable(report, False)
    os.setsid()
    for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
        signal.signal(number, signal.SIG_DFL)
    signal.signal(signal.SIGINT, signal.default_int_handler)
    os.chdir(request["folder"])
    os.environ.update(request["variables"])
    _redirect()
    shim = None
    if request["fault"] is not None:
        shim = Shim(Fault(**request["fault"]), lambda text: write(report, f"fault {text}\n".encode()))
        shim.install()
    status = 1
    try:
        from rlhfc.cli.main import main

        status = main(request["argv"])
    except SystemExit as ended:
        status = ended.code if isinstance(ended.code, int) else 1
    except BaseException:  # as Python itself does
        traceback.print_exc()
    finally:
        with contextlib.suppress(OSError):
            sys.stdout.flush()
            sys.stderr.flush()
        if shim is not None:
            write(report, f"calls {shim.count}\n".encode())
    return status


def _redirect() -> None:
    for number, name in ((0, os.devnull), (1, "said.out"), (2, "said.err")):
        descriptor = os.open(name, os.O_RDONLY if number == 0 else os.O_WRONLY | os.O_CREAT | os.O_TRUNC)
        os.dup2(descriptor, number)
        os.close(descriptor)
    sys.stdin = io.TextIOWrapper(io.FileIO(0, closefd=False))
    sys.stdout = io.TextIOWrapper(io.BufferedWriter(io.FileIO(1, "w", closefd=False)), "utf-8")
    sys.stderr = io.TextIOWrapper(
        io.BufferedWriter(io.FileIO(2, "w", closefd=False)), "utf-8", line_buffering=True
    )


def _wait(child: int, kill_after: float | None) -> int | None:
    """Exit status of the child; None when it hung and was killed for that."""
    descriptor = os.pidfd_open(child)
    began, hung = time.monotonic(), False
    try:
        if not select.select([descriptor], [], [], kill_after or PATIENCE_SECONDS)[0]:
            hung = kill_after is None
            os.kill(child, signal.SIGKILL)
    finally:
        os.close(descriptor)
    _, status = os.waitpid(child, 0)
    assert time.monotonic() - began < PATIENCE_SECONDS + 60
    return None if hung else os.waitstatus_to_exitcode(status)


if __name__ == "__main__":
    serve()
