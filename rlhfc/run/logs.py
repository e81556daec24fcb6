"""Reading the logs of attempts: bytes of many processes, not always UTF-8."""

from __future__ import annotations

import re
from pathlib import Path

from rlhfc.terminal import CONTROL

TAIL_BYTES = 256 * 1024
# DeepSpeed's launcher announces each process it starts and ends: nothing about why a rank failed.
LAUNCHER_NOISE = re.compile(r"\[(?:launch|runner)\.py:\d+:|Setting ds_accelerator to|^\s*$")
# Whole sequences go with what they carry (colours, titles of the window), then what is left of others.
SEQUENCE = re.compile(r"\x1b\[[0-?]*[ -/]*[@-~]|\x1b\][^\x07\x1b]*(?:\x07|\x1b\\)")


def clean(text: str) -> str:
    """Drop control sequences that would upset a terminal, and all but the last state of a progress bar."""
    return CONTROL.sub("", SEQUENCE.sub("", text.rstrip("\r\n").rpartition("\r")[2]))


def tail(path: Path, lines: int, *, noise: bool = True) -> list[str]:
    """Read the last lines of a log.

    Args:
        path: the log; a missing one has no lines.
        lines: how many at most.
        noise: whether lines of the launcher count.
    """
    try:
        with path.open("rb") as stream:
            size = stream.seek(0, 2)
            stream.seek(max(0, size - TAIL_BYTES))
            text = stream.read().decode(errors="replace")
    except FileNotFoundError:
        return []
    shown = [clean(line) for line in text.split("\n")]
    kept = [line for line in shown if line and (noise or not LAUNCHER_NOISE.search(line))]
    return kept[-lines:]


def user_error(path: Path) -> tuple[str, str | None] | None:
    """Find the last ``error: … hint: …`` line of a log: message and hint."""
    for line in reversed(tail(path, 200)):
        found = re.search(r"(?:^|\s)error: (.+)$", line)
        if found:
            message, _, hint = found[1].partition(" hint: ")
            return message.strip(), hint.strip() or None
    return None


class LogReader:
    """Reads what is added to a log, whole lines only."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self._offset = 0
        self._rest = b""

    def new_lines(self) -> list[str]:
        """Return the lines since the last call."""
        try:
            with self.path.open("rb") as stream:
                stream.seek(self._offset)
                data = stream.read()
        except FileNotFoundError:
            return []
        self._offset += len(data)
        *lines, self._rest = (self._rest + data).split(b"\n")
        return [clean(line.decode(errors="replace")) for line in lines]
