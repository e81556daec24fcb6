"""Who holds a lock or a pin, in words for people and in a form that other machines can judge."""

from __future__ import annotations

import getpass
import json
import os
import platform
import sys
from collections.abc import Iterator, Mapping
from contextlib import contextmanager, suppress
from dataclasses import asdict, dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from rlhfc.identity import Identity, boot_id, own_identity
from rlhfc.store.files import unique_name
from rlhfc.store.ledger import utc_now

OWN_NAMESPACE = Path("/proc/self/ns/pid")
FIRST_NAMESPACE = 0xEFFFFFFC  # <linux/nsfs.h>: that of the machine itself
WORDS = 2  # of the command line: what it does, and with which spec


@dataclass(frozen=True)
class Holder:
    """A process that holds something in a store.

    Attributes:
        host: name of its machine, with the namespace of process numbers where that is a container's:
            only inside of it do numbers mean anything.
        pid, start, boot: as in :class:`rlhfc.identity.Identity`.
        run: identifier of the run, or None for another command.
        since: UTC time, ISO 8601.
    """

    user: str
    host: str
    pid: int
    start: int
    boot: str
    since: str
    command: str
    run: str | None = None

    @classmethod
    def me(cls, run: str | None = None) -> Holder:
        """The process that asks, from now on."""
        command = " ".join(["rlhfc", *sys.argv[1 : 1 + WORDS]])
        return cls(_user(), own_host(), **asdict(own_identity()), since=utc_now(), command=command, run=run)

    @classmethod
    def read(cls, data: bytes | Mapping[str, Any]) -> Holder | None:
        """A holder as it was written; None when it is damaged or another version's."""
        try:
            fields = json.loads(data) if isinstance(data, bytes) else data
            return cls(**fields)
        except (ValueError, TypeError):
            return None

    def encode(self) -> bytes:
        """It as JSON."""
        return json.dumps(asdict(self)).encode()

    @property
    def is_here(self) -> bool:
        """Whether its number means something to this process: same machine, same boot."""
        return (self.host, self.boot) == (own_host(), boot_id())

    @property
    def is_dead(self) -> bool:
        """Whether it is known to have ended. Of another machine, or another boot, nothing is known."""
        return self.is_here and not Identity(self.pid, self.start, self.boot).lives()

    def words(self) -> str:
        """Such as ``run 20261122T140200-1a2b3c of ada@node3 (pid 123, since 14:02)``."""
        what = f"run {self.run}" if self.run else f"`{self.command}`"
        machine = self.host.partition(" ")[0]
        return f"{what} of {self.user}@{machine} (pid {self.pid}, since {_clock(self.since)})"


def own_host() -> str:
    """Name of this machine; in a container with the namespace of its process numbers."""
    try:
        namespace = OWN_NAMESPACE.stat().st_ino
    except OSError:  # no Linux, or hidden
        namespace = FIRST_NAMESPACE
    return platform.node() if namespace == FIRST_NAMESPACE else f"{platform.node()} {namespace}"


def _user() -> str:
    try:
        return getpass.getuser()
    except (OSError, KeyError):  # an account without a name, as in some containers
        return str(os.getuid())


def _clock(since: str) -> str:
    """Local time of day; with the date, when that is not today's."""
    try:
        then = datetime.fromisoformat(since).astimezone()
    except ValueError:
        return since
    today = datetime.now(UTC).astimezone().date()
    return f"{then:%H:%M}" if then.date() == today else f"{then:%Y-%m-%d %H:%M}"


@contextmanager
def named(path: Path, holder: Holder) -> Iterator[None]:
    """Say beside a lock who holds it. Only messages rest on it."""
    beside, mine = _beside(path), holder.encode()
    with suppress(OSError):
        draft = beside.with_name(f".{beside.name}.{unique_name()}")
        draft.write_bytes(mine)
        draft.replace(beside)
    try:
        yield
    finally:
        with suppress(OSError):
            if beside.read_bytes() == mine:
                beside.unlink()


def owner_words(path: Path) -> str | None:
    """Who holds a lock, in words; None where that is not known (any more)."""
    try:
        holder = Holder.read(_beside(path).read_bytes())
    except OSError:
        return None
    return holder.words() if holder is not None and not holder.is_dead else None


def _beside(path: Path) -> Path:
    return path.with_name(f"{path.name}.owner")
