"""What has been asked of a run while it is at work, and the commands that it is asked of."""

from __future__ import annotations

import threading
from contextlib import suppress
from pathlib import Path

from rlhfc.run.process import Session


class Interrupts:
    """How often the user has asked to stop: once to save and stop, twice to end, three times to kill."""

    def __init__(self) -> None:
        self.level = 0
        self.reason: str | None = None

    def ask(self) -> None:
        """Ask once more."""
        self.level += 1

    def at_least(self, level: int, reason: str) -> None:
        """Ask so often, for a reason that is no signal."""
        if self.level < level:
            self.level, self.reason = level, reason


class Care:
    """The commands that run now, and what has been asked of them. See :class:`rlhfc.run.shop.Control`."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._sessions: dict[Session, Path] = {}
        self._level = 0
        self._stopping = threading.Event()

    def stopping(self) -> bool:
        """Whether nothing new may be started."""
        return self._level >= 1

    def ending(self) -> bool:
        """Whether running commands have been told to end, saved or not."""
        return self._level >= 2

    def pause(self, seconds: float) -> None:
        """Wait, until the run is stopping at the latest."""
        self._stopping.wait(seconds)

    def dump(self) -> None:
        """Ask every command for its stacks, which go into its log."""
        with self._lock:
            for session in self._sessions:
                session.dump()

    def working(self) -> list[Path]:
        """Folders of the actions whose commands run now."""
        with self._lock:
            return [stop_file.parents[2] for stop_file in self._sessions.values()]

    def watch(self, session: Session, stop_file: Path) -> None:
        """Take a command into care; what was asked of the others is asked of it as well."""
        with self._lock:
            self._sessions[session] = stop_file
            self._ask(session, stop_file)

    def unwatch(self, session: Session) -> None:
        """Release a command that has ended."""
        with self._lock:
            self._sessions.pop(session, None)

    def escalate(self, level: int) -> None:
        """Ask every command to save and stop (1), to end (2), or kill it (3)."""
        with self._lock:
            if level > self._level:
                self._level = level
                self._stopping.set()
                for session, stop_file in self._sessions.items():
                    self._ask(session, stop_file)

    def _ask(self, session: Session, stop_file: Path) -> None:
        if self._level >= 1:
            with suppress(OSError):  # on a full disk nothing can be saved either
                stop_file.touch()
        if self._level == 2:
            session.terminate()
        elif self._level >= 3:
            session.kill()
