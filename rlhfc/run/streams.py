"""What the processes of an attempt say, on its way into logs: redacted, whole lines of each rank.

Part of the guard (see ``guard.py``): standard library only.
"""

from __future__ import annotations

import fcntl
import os
import re
from collections.abc import Mapping
from pathlib import Path

LONG_LINE = 8  # characters of a line that is a secret by itself
PIECE = 64 * 1024  # bytes; a line that is longer is passed on in pieces
PIPE_BYTES = 1024 * 1024


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


class Pump:
    """Carries what is written into a pipe to our own standard output, redacted."""

    def __init__(self, secrets: Mapping[str, str]) -> None:
        self.redactor = Redactor(secrets)
        self.reader, self.writer = os.pipe()
        os.set_blocking(self.reader, False)

    def move(self) -> bool:
        """Pass on what there is; tell whether there may be more."""
        try:
            data = os.read(self.reader, PIECE)
        except BlockingIOError:
            return False
        self._show(self.redactor.feed(data))
        return bool(data)

    def drain(self) -> None:
        """Pass on the rest, when nobody is left to write."""
        while self.move():
            pass
        self._show(self.redactor.flush())

    def _show(self, data: bytes) -> None:
        write_all(1, data)


class RankPump(Pump):
    """Carries what one rank says to a log of its own as well, and whole lines of it to the common log."""

    def __init__(self, secrets: Mapping[str, str], log: Path) -> None:
        super().__init__(secrets)
        self._log = os.open(log, os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o644)
        self._line = b""
        try:
            fcntl.fcntl(self.writer, fcntl.F_SETPIPE_SZ, PIPE_BYTES)  # a talkative rank waits less often
        except OSError:  # above what the user may take
            return

    @property
    def address(self) -> str:
        """Path by which a process of the same user may open the pipe to write."""
        return f"/proc/{os.getpid()}/fd/{self.writer}"

    def drain(self) -> None:
        """See :class:`Pump`; a last line without its end is ended."""
        super().drain()
        if self._line:
            write_all(1, self._line + b"\n")
            self._line = b""

    def _show(self, data: bytes) -> None:
        write_all(self._log, data)
        whole, newline, rest = (self._line + data).rpartition(b"\n")
        if len(rest) > PIECE:
            whole, newline, rest = whole + newline + rest, b"", b""
        write_all(1, whole + newline)
        self._line = rest


def write_all(descriptor: int, data: bytes) -> None:
    """Write bytes; a disk that is full takes none, and the command must not hang for it."""
    try:
        while data:
            data = data[os.write(descriptor, data) :]
    except OSError:  # its result will not fit either
        return
