"""Processes: how an attempt's is started and ended, and how one left by a dead run is known again."""

from __future__ import annotations

import json
import os
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Protocol

from rlhfc.identity import Identity, boot_id, start_time, stat_fields
from rlhfc.run import guard
from rlhfc.run.streams import Redactor

MARKER = "RLHFC_ATTEMPT"
EXIT_FILE = "exit.json"
END_SECONDS = 2.0


@dataclass(frozen=True)
class Exit:
    """How a command ended.

    Attributes:
        returncode: exit status; below zero the signal; None when nobody saw it end.
        survivors: commands of processes that outlived it and had to be ended.
    """

    returncode: int | None
    survivors: tuple[str, ...] = ()


class Session(Protocol):
    """A launch that runs."""

    @property
    def identity(self) -> Identity:
        """Head of its session."""

    def dump(self) -> None:
        """Ask every process of it to write its stacks into the log."""

    def terminate(self) -> None:
        """Ask every process of it to end."""

    def kill(self) -> None:
        """End every process of it."""

    def wait(self) -> Exit:
        """Return when all of it has ended.

        Raises:
            OSError: how it ended was written down, and cannot be read.
        """


class Launcher(Protocol):
    """Starts commands. The real one is :class:`LocalLauncher`; tests have others."""

    def start(
        self,
        argv: Sequence[str],
        environment: Mapping[str, str],
        folder: Path,
        secrets: Mapping[str, str],
        ranks: int = 1,
    ) -> Session:
        """Start a command in ``folder``; its output goes to ``folder/log``.

        Args:
            argv: command; no shell sees it.
            environment: variables on top of our own.
            folder: the attempt's.
            secrets: by name, what the log must not show.
            ranks: with several, what each says goes to ``rank0.log``, ``rank1.log``, … as well.
        """


class LocalLauncher:
    """Starts commands on this machine, each under a guard (see ``guard.py``)."""

    def start(
        self,
        argv: Sequence[str],
        environment: Mapping[str, str],
        folder: Path,
        secrets: Mapping[str, str],
        ranks: int = 1,
    ) -> Session:
        """See :class:`Launcher`."""
        exit_file = folder / EXIT_FILE
        with (folder / "log").open("ab") as log:
            process = subprocess.Popen(
                [sys.executable, "-I", "-S", guard.__file__, str(exit_file), str(ranks), *argv],
                stdin=subprocess.PIPE,
                stdout=log,
                stderr=subprocess.STDOUT,
                cwd=folder,
                env={**os.environ, **environment, MARKER: str(folder)},
                start_new_session=True,
            )
        return _LocalSession(process, folder, secrets)


class _LocalSession:
    def __init__(self, process: subprocess.Popen[bytes], folder: Path, secrets: Mapping[str, str]) -> None:
        self._process, self._folder = process, folder
        self._redactor = Redactor(secrets)
        self.identity = Identity(process.pid, start_time(process.pid) or 0, boot_id())
        self._order(json.dumps(dict(secrets)).encode() + b"\n")

    def dump(self) -> None:
        self._order(b"d")

    def terminate(self) -> None:
        self._order(b"t")

    def kill(self) -> None:
        self._order(b"k")

    def wait(self) -> Exit:
        # The guard's number stays taken until it is reaped, so the scan cannot hit a stranger.
        os.waitid(os.P_PID, self._process.pid, os.WEXITED | os.WNOWAIT)
        stray = [pid for pid in session_members(self._process.pid) if pid != self._process.pid]
        strays = tuple(guard.command_line(pid, self._redactor) for pid in stray)
        end_processes(stray)
        self._process.wait()
        if self._process.stdin is not None:
            with suppress(OSError):
                self._process.stdin.close()
        try:
            outcome = json.loads((self._folder / EXIT_FILE).read_bytes())
        except (FileNotFoundError, ValueError):  # the guard itself was killed
            end_processes(leftovers(self._folder, None))  # what has left its session
            return Exit(None, strays)
        return Exit(outcome["returncode"], tuple(s["command"] for s in outcome["survivors"]) + strays)

    def _order(self, order: bytes) -> None:
        assert self._process.stdin is not None
        with suppress(OSError):  # the guard has ended already
            while order:
                order = order[os.write(self._process.stdin.fileno(), order) :]


def free_port() -> int:
    """Find a TCP port that is free on the loopback interface now."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port: int = probe.getsockname()[1]
        return port


def session_members(session: int) -> list[int]:
    """List the living processes of a session."""
    members = ((pid, fields) for pid, fields in _all_stats() if int(fields[3]) == session)
    return [pid for pid, fields in members if fields[0] not in (b"Z", b"X")]


def leftovers(folder: Path, head: Identity | None) -> list[int]:
    """List the living processes of an attempt whose run has died.

    They are known by the attempt's folder in their environment, or by their session: of this boot,
    and not younger than a head that would have taken its number anew.
    """
    mine = f"{MARKER}={folder}".encode()
    sought = head is not None and head.boot == boot_id() and start_time(head.pid) in (None, head.start)
    found = []
    for pid, fields in _all_stats():
        if fields[0] in (b"Z", b"X") or pid == os.getpid():
            continue
        in_session = (
            sought and head is not None and int(fields[3]) == head.pid and int(fields[19]) >= head.start
        )
        if in_session or mine in _environment(pid):
            found.append(pid)
    return found


def end_processes(pids: Sequence[int]) -> None:
    """Ask processes to end, then end them."""
    _signal(pids, signal.SIGTERM)
    _await_end(pids, END_SECONDS)
    _signal([pid for pid in pids if start_time(pid) is not None], signal.SIGKILL)
    _await_end(pids, END_SECONDS)


def _signal(pids: Sequence[int], number: signal.Signals) -> None:
    for pid in pids:
        with suppress(ProcessLookupError, PermissionError):
            os.kill(pid, number)


def _await_end(pids: Sequence[int], seconds: float) -> None:
    deadline = time.monotonic() + seconds
    while any(start_time(pid) is not None for pid in pids) and time.monotonic() < deadline:
        time.sleep(0.02)


def _all_stats() -> list[tuple[int, list[bytes]]]:
    if not Path("/proc").is_dir():
        return []
    pids = [int(path.name) for path in Path("/proc").iterdir() if path.name.isdecimal()]
    return [(pid, fields) for pid in pids if (fields := stat_fields(pid))]


def _environment(pid: int) -> list[bytes]:
    try:
        return Path(f"/proc/{pid}/environ").read_bytes().split(b"\0")
    except OSError:  # gone, or another user's
        return []
