"""The process between a run and the command of an attempt. No process survives its parent.

Started as a script (``python -I -S guard.py EXIT_FILE RANKS COMMAND…``) at the head of a session of its
own; it imports ``streams.py`` and the standard library only, to be there quickly. It stays in place
instead of turning into the command, because the kernel ties a death signal to one process only:
``deepspeed`` killed by its parent's death leaves its ranks behind. The guard is the reaper of all its
descendants, finds those that changed session too, and ends them all when the run is gone.

Standard input is the line to the run. First comes a JSON object of secrets, value by name: where there
are any, the command writes into a pipe, and the guard puts ``<env:NAME>`` in their place on the way to
the log. Then ``d`` asks every descendant that can for a dump of its stacks, ``t`` for SIGTERM to all of
them, ``k`` for SIGKILL; end of file means that the run has died, and is a ``k``.

With several RANKS each gets a pipe of its own, named in ``RLHFC_RANK_STREAMS``, so that the log has
whole lines and beside it lies a log for each rank. A rank that does not open its pipe speaks into the
log.

When the command has ended, what lives on after a grace period is a survivor: noted, then ended.
``EXIT_FILE`` gets, atomically,
``{"returncode": 0, "survivors": [{"pid": 1, "command": "…"}], "orphaned": false}``;
a return code below zero is the signal that killed the command.
"""

# ruff: noqa: PTH105, PTH123, PTH208
from __future__ import annotations

import json
import os
import select
import signal
import sys
import time
from collections.abc import Callable, Sequence
from contextlib import suppress
from pathlib import Path
from types import FrameType

if not __package__:  # started as a script, and isolated: nothing of rlhfc is on the path
    sys.path.append(str(Path(__file__).parents[2]))

from rlhfc.run.streams import Pump, RankPump, Redactor, write_all

GRACE_SECONDS = 2.0  # helpers of a command may need a moment to notice that it has ended
TERM_SECONDS = 5.0
SET_PDEATHSIG, SET_CHILD_SUBREAPER = 1, 36  # <linux/prctl.h>
CANNOT_START = 127
DUMP = signal.SIGUSR1  # `run_stage` of rlhfc/stages/common/job.py answers it
RANK_STREAMS = "RLHFC_RANK_STREAMS"
COMMAND_LENGTH = 400  # characters of a command that a message shows

Survivor = dict[str, int | str]


def main(exit_file: str, ranks: int, command: list[str]) -> int:
    """Run the command, guard it, write down how it ended."""
    if (secrets := _first_line()) is None:
        return 1  # the run died before it could say anything
    import ctypes  # here: who imports this module for the rest of it is spared a slow import

    pump = Pump(secrets) if secrets else None
    logs = [Path(exit_file).with_name(f"rank{rank}.log") for rank in range(ranks if ranks > 1 else 0)]
    rank_pumps = [RankPump(secrets, log) for log in logs]
    if rank_pumps:
        os.environ[RANK_STREAMS] = os.pathsep.join(rank.address for rank in rank_pumps)
    prctl = ctypes.CDLL(None, use_errno=True).prctl
    prctl(SET_CHILD_SUBREAPER, 1, 0, 0, 0)
    wakeup = _signals_to_pipe()
    child = _start(command, prctl, pump)
    pumps = [*([pump] if pump is not None else []), *rank_pumps]
    guard = _Guard(child, wakeup, pumps, Redactor(secrets))
    guard.watch()
    survivors = guard.end_survivors()
    for each in pumps:
        each.drain()
    outcome = {"returncode": guard.returncode, "survivors": survivors, "orphaned": guard.orphaned}
    _write(exit_file, json.dumps(outcome))
    return 0


class _Guard:
    def __init__(self, child: int, wakeup: int, pumps: Sequence[Pump], redactor: Redactor) -> None:
        self.child, self.wakeup, self.redactor = child, wakeup, redactor
        self.pumps = {pump.reader: pump for pump in pumps}
        self.returncode: int | None = None
        self.orphaned = False
        self.sources = [0, wakeup, *self.pumps]

    def watch(self) -> None:
        """Until the command has ended: reap, and do as the run says."""
        self._reap()
        while self.returncode is None:
            self._listen(timeout=None)
            self._reap()

    def end_survivors(self) -> list[Survivor]:
        """Wait, note who is left, end them."""
        self._wait_for_all(0.0 if self.orphaned else GRACE_SECONDS)
        left = descendants(os.getpid())
        found: list[Survivor] = [{"pid": pid, "command": command_line(pid, self.redactor)} for pid in left]
        if found:
            _signal_all(signal.SIGTERM)
            self._wait_for_all(TERM_SECONDS)
            deadline = time.monotonic() + TERM_SECONDS
            while descendants(os.getpid()) and time.monotonic() < deadline:
                _signal_all(signal.SIGKILL)
                self._wait_for_all(0.1)
        return found

    def _listen(self, timeout: float | None) -> None:
        ready, _, _ = select.select(self.sources, [], [], timeout)
        if self.wakeup in ready:
            for number in os.read(self.wakeup, 64):
                if number in (signal.SIGTERM, signal.SIGINT, signal.SIGHUP):
                    _signal_all(signal.SIGTERM)
        for source in ready:
            if source in self.pumps and not self.pumps[source].move():
                self.sources.remove(source)
        if 0 in ready:
            orders = os.read(0, 64)
            if not orders:
                self.sources.remove(0)
                self.orphaned = True
            if b"d" in orders:
                dump_all(self.redactor)
            if not orders or b"k" in orders:
                _signal_all(signal.SIGKILL)
            elif b"t" in orders:
                _signal_all(signal.SIGTERM)

    def _wait_for_all(self, seconds: float) -> None:
        deadline = time.monotonic() + seconds
        self._reap()
        while descendants(os.getpid()) and time.monotonic() < deadline:
            self._listen(timeout=0.05)
            self._reap()

    def _reap(self) -> None:
        while True:
            try:
                pid, status = os.waitpid(-1, os.WNOHANG)
            except ChildProcessError:
                return
            if pid == 0:
                return
            if pid == self.child:
                self.returncode = os.waitstatus_to_exitcode(status)


def descendants(root: int) -> list[int]:
    """List the living processes below ``root``, zombies left out."""
    children: dict[int, list[int]] = {}
    dead = set()
    for name in os.listdir("/proc"):
        if not name.isdecimal():
            continue
        try:
            with open(f"/proc/{name}/stat", "rb") as stream:
                # After the name in parentheses, which may hold anything: state, parent, …
                fields = stream.read().rpartition(b")")[2].split()
        except OSError:
            continue
        children.setdefault(int(fields[1]), []).append(int(name))
        if fields[0] in (b"Z", b"X"):
            dead.add(int(name))
    found, queue = [], [root]
    while queue:
        below = children.get(queue.pop(), [])
        queue.extend(below)
        found.extend(below)
    return [pid for pid in found if pid not in dead]


def _first_line() -> dict[str, str] | None:
    """The secrets; None at the end of the input."""
    with open(0, "rb", buffering=0, closefd=False) as stream:  # unbuffered: orders follow
        line = stream.readline()
    secrets: dict[str, str] | None = json.loads(line) if line.endswith(b"\n") else None
    return secrets


def _start(command: list[str], prctl: Callable[..., int], pump: Pump | None) -> int:
    """Fork and execute. Only this thread exists, so nothing can hold a lock across the fork."""
    guard = os.getpid()
    child = os.fork()
    if child:
        if pump is not None:
            os.close(pump.writer)  # the end of the pipe is when its last writer has ended
        return child
    try:
        prctl(SET_PDEATHSIG, signal.SIGKILL, 0, 0, 0)
        if os.getppid() != guard:
            os._exit(CANNOT_START)
        signal.set_wakeup_fd(-1)
        for number in (signal.SIGTERM, signal.SIGINT, signal.SIGHUP, signal.SIGCHLD, signal.SIGPIPE):
            signal.signal(number, signal.SIG_DFL)
        os.dup2(os.open(os.devnull, os.O_RDONLY), 0)
        if pump is not None:
            os.dup2(pump.writer, 1)
            os.dup2(pump.writer, 2)
        os.execvp(command[0], command)
    except OSError as error:
        os.write(2, f"error: cannot start `{command[0]}`: {error.strerror}\n".encode())
    finally:
        os._exit(CANNOT_START)


def _signals_to_pipe() -> int:
    reader, writer = os.pipe()
    os.set_blocking(writer, False)
    signal.set_wakeup_fd(writer, warn_on_full_buffer=False)
    for number in (signal.SIGTERM, signal.SIGINT, signal.SIGHUP, signal.SIGCHLD):
        signal.signal(number, _ignore)
    return reader


def _ignore(number: int, frame: FrameType | None) -> None:
    """The wakeup pipe has it."""


def _signal_all(number: signal.Signals) -> None:
    for pid in descendants(os.getpid()):
        try:
            os.kill(pid, number)
        except ProcessLookupError:
            continue


def dump_all(redactor: Redactor) -> None:
    """Ask every descendant for its stacks; of those that would die of it, note where they are."""
    for pid in descendants(os.getpid()):
        facts = _facts(pid)
        if int(facts.get("SigCgt", "0"), 16) >> (DUMP - 1) & 1:
            with suppress(ProcessLookupError):
                os.kill(pid, DUMP)
        elif facts:
            where = f"state {facts.get('State', '?')}, waits in {_read(f'/proc/{pid}/wchan') or '?'}"
            line = f"no stack of process {pid} `{command_line(pid, redactor)}`: {where}\n"
            write_all(1, line.encode())


def _facts(pid: int) -> dict[str, str]:
    """Fields of ``/proc/<pid>/status``; none when it is gone."""
    lines = _read(f"/proc/{pid}/status").splitlines()
    return {name: value.strip() for name, _, value in (line.partition(":") for line in lines)}


def _read(path: str) -> str:
    try:
        with open(path, "rb") as stream:
            return stream.read().decode(errors="replace")
    except OSError:
        return ""


def command_line(pid: int, redactor: Redactor) -> str:
    """Tell the command of a process; empty when it is gone."""
    try:
        with open(f"/proc/{pid}/cmdline", "rb") as stream:
            words = stream.read().replace(b"\0", b" ")
    except OSError:
        return ""
    # Cut last: of a secret that is cut through, the beginning would be shown.
    return redactor.whole(words).decode(errors="replace")[:COMMAND_LENGTH].strip()


def _write(path: str, text: str) -> None:
    draft = f"{path}.{os.getpid()}"
    with open(draft, "w", encoding="utf-8") as stream:
        stream.write(text)
        stream.flush()
        os.fsync(stream.fileno())
    os.replace(draft, path)


if __name__ == "__main__":
    sys.exit(main(sys.argv[1], int(sys.argv[2]), sys.argv[3:]))
