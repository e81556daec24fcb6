"""The process between a run and the command of an attempt. No process survives its parent.

Started as a script (``python -I -S guard.py EXIT_FILE COMMAND…``) at the head of a session of its
own, so it imports nothing of rlhfc and starts in some 20 ms. It stays in place instead of turning
into the command, because the kernel ties a death signal to one process only: ``deepspeed`` killed
by its parent's death leaves its ranks behind. The guard is the reaper of all its descendants, finds
those that changed session too, and ends them all when the run is gone.

Standard input is the line to the run. First comes a JSON object of secrets, value by name: where there
are any, the command writes into a pipe, and the guard puts ``<env:NAME>`` in their place on the way to
the log. Then ``t`` asks for SIGTERM to every descendant, ``k`` for SIGKILL; end of file means that the
run has died, and is a ``k``. When the command has ended, what lives on after a grace period is a
survivor: noted, then ended. ``EXIT_FILE`` gets, atomically,
``{"returncode": 0, "survivors": [{"pid": 1, "command": "…"}], "orphaned": false}``;
a return code below zero is the signal that killed the command.
"""

# ruff: noqa: PTH105, PTH123, PTH208
from __future__ import annotations

import json
import os
import re
import select
import signal
import sys
import time
from collections.abc import Callable, Mapping
from types import FrameType

GRACE_SECONDS = 2.0  # helpers of a command may need a moment to notice that it has ended
TERM_SECONDS = 5.0
SET_PDEATHSIG, SET_CHILD_SUBREAPER = 1, 36  # <linux/prctl.h>
CANNOT_START = 127
LONG_LINE = 8  # characters of a line that is a secret by itself
COMMAND_LENGTH = 400  # characters of a command that a message shows

Survivor = dict[str, int | str]


def main(exit_file: str, command: list[str]) -> int:
    """Run the command, guard it, write down how it ended."""
    if (secrets := _first_line()) is None:
        return 1  # the run died before it could say anything
    import ctypes  # here: who imports this module for the rest of it is spared a slow import

    pump = _Pump(secrets) if secrets else None
    prctl = ctypes.CDLL(None, use_errno=True).prctl
    prctl(SET_CHILD_SUBREAPER, 1, 0, 0, 0)
    wakeup = _signals_to_pipe()
    child = _start(command, prctl, pump)
    guard = _Guard(child, wakeup, pump)
    guard.watch()
    survivors = guard.end_survivors(Redactor(secrets))
    if pump is not None:
        pump.drain()
    outcome = {"returncode": guard.returncode, "survivors": survivors, "orphaned": guard.orphaned}
    _write(exit_file, json.dumps(outcome))
    return 0


class Redactor:
    """Puts ``<env:NAME>`` in the place of secrets and their lines, in bytes that come piece by piece."""

    def __init__(self, secrets: Mapping[str, str]) -> None:
        """Take the secrets, value by name. Each of several lines is one too: logs are cut into lines."""
        self._names: dict[bytes, bytes] = {}
        for name, value in secrets.items():
            lines = [line.strip() for line in value.splitlines()]
            # Without the white space around it too: that is cut off before a secret is used.
            for part in (value, value.strip(), *(line for line in lines if len(line) >= LONG_LINE)):
                if part:
                    self._names.setdefault(os.fsencode(part), f"<env:{name}>".encode())
        longest_first = sorted(self._names, key=len, reverse=True)
        self._pattern = re.compile(b"|".join(map(re.escape, longest_first)))
        self._first = re.compile(
            b"[%s]" % b"".join({re.escape(part[:1]) for part in longest_first} or {b" "})
        )
        self._longest = len(longest_first[0]) if longest_first else 0
        self._held = b""

    def feed(self, data: bytes) -> bytes:
        """What may be shown by now; an end that a secret may begin with is held back."""
        data = self._held + data
        done, shown = 0, b""
        open_end = self._open_end(data, 0)
        for found in self._pattern.finditer(data) if self._names else ():
            if found.start() >= open_end:
                break
            shown += data[done : found.start()] + self._names[found[0]]
            done = found.end()
        open_end = self._open_end(data, done)
        self._held = data[open_end:]
        return shown + data[done:open_end]

    def flush(self) -> bytes:
        """The rest, at the end."""
        rest, self._held = self._held, b""
        return self._pattern.sub(lambda found: self._names[found[0]], rest) if self._names else rest

    def whole(self, data: bytes) -> bytes:
        """Bytes that are all there is."""
        return self.feed(data) + self.flush()

    def _open_end(self, data: bytes, after: int) -> int:
        """Where the longest end of ``data`` begins that a secret begins with."""
        within = max(after, len(data) - self._longest + 1)
        for found in self._first.finditer(data, within):
            end = data[found.start() :]
            if any(len(end) < len(part) and part.startswith(end) for part in self._names):
                return found.start()
        return len(data)


class _Pump:
    """Carries what the command says to our own output, redacted."""

    def __init__(self, secrets: Mapping[str, str]) -> None:
        self.redactor = Redactor(secrets)
        self.reader, self.writer = os.pipe()
        os.set_blocking(self.reader, False)

    def move(self) -> bool:
        """Pass on what there is; tell whether there may be more."""
        try:
            data = os.read(self.reader, 65536)
        except BlockingIOError:
            return False
        _write_all(1, self.redactor.feed(data))
        return bool(data)

    def drain(self) -> None:
        """Pass on the rest, when nobody is left to write."""
        while self.move():
            pass
        _write_all(1, self.redactor.flush())


class _Guard:
    def __init__(self, child: int, wakeup: int, pump: _Pump | None) -> None:
        self.child, self.wakeup, self.pump = child, wakeup, pump
        self.returncode: int | None = None
        self.orphaned = False
        self.sources = [0, wakeup, *([pump.reader] if pump is not None else [])]

    def watch(self) -> None:
        """Until the command has ended: reap, and do as the run says."""
        self._reap()
        while self.returncode is None:
            self._listen(timeout=None)
            self._reap()

    def end_survivors(self, redactor: Redactor) -> list[Survivor]:
        """Wait, note who is left, end them."""
        self._wait_for_all(0.0 if self.orphaned else GRACE_SECONDS)
        left = descendants(os.getpid())
        found: list[Survivor] = [{"pid": pid, "command": command_line(pid, redactor)} for pid in left]
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
        if self.pump is not None and self.pump.reader in ready and not self.pump.move():
            self.sources.remove(self.pump.reader)
        if 0 in ready:
            orders = os.read(0, 64)
            if not orders:
                self.sources.remove(0)
                self.orphaned = True
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


def _start(command: list[str], prctl: Callable[..., int], pump: _Pump | None) -> int:
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


def command_line(pid: int, redactor: Redactor) -> str:
    """Tell the command of a process; empty when it is gone."""
    try:
        with open(f"/proc/{pid}/cmdline", "rb") as stream:
            words = stream.read().replace(b"\0", b" ")
    except OSError:
        return ""
    # Cut last: of a secret that is cut through, the beginning would be shown.
    return redactor.whole(words).decode(errors="replace")[:COMMAND_LENGTH].strip()


def _write_all(descriptor: int, data: bytes) -> None:
    try:
        while data:
            data = data[os.write(descriptor, data) :]
    except OSError:  # a full disk: the command must not hang for it, and its result will not fit either
        return


def _write(path: str, text: str) -> None:
    draft = f"{path}.{os.getpid()}"
    with open(draft, "w", encoding="utf-8") as stream:
        stream.write(text)
        stream.flush()
        os.fsync(stream.fileno())
    os.replace(draft, path)


if __name__ == "__main__":
    sys.exit(main(sys.argv[1], sys.argv[2:]))
