"""Locks that are held, and those that are leases: for file systems where the kernel's locks prove nothing.

filelock has the protocols. A holder refreshes its claim from a thread. Another takes the claim over when
the holder is known to be dead, or when it has seen no refresh for as long as a lease lasts, by its own
steady clock: no two clocks are compared, and a clock that jumps ends no lease. A holder that froze can
thus lose its claim without knowing; :meth:`Hold.check` tells it before it does what cannot be undone.
"""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path

from rlhfc.store.holder import owner_words

POLL_SECONDS = 0.05
BEATS = 12  # refreshes in the time that a lease lasts


class LostLockError(Exception):
    """Another has taken over a lock while this process was frozen, or cut off from the store."""


class Hold:
    """A lock that is held. The kernel's cannot be lost."""

    def check(self) -> None:
        """Do nothing while it is still held.

        Raises:
            LostLockError: another has it.
        """

    def when_lost(self, act: Callable[[], None]) -> None:
        """Call ``act``, once and from another thread, should another take the lock over."""


class KeyLease(Hold):
    """A claim to a lease on a key, and the lease. One object for all tries: it times the holder's beats."""

    def __init__(self, path: Path, seconds: float) -> None:
        from filelock import SoftFileLease

        self._path = path.with_name(f"{path.name}.lease")
        self._lost = threading.Event()
        self._acts: list[Callable[[], None]] = []
        self._lease = SoftFileLease(
            self._path,
            lease_duration=seconds,
            heartbeat_interval=seconds / BEATS,
            on_compromise=lambda _: self._tell(),
            thread_local=False,
        )

    def take(self, held: ExitStack) -> Hold | None:
        """Take it now, to be released with ``held``; None when another has it."""
        from filelock import Timeout

        try:
            self._lease.acquire(timeout=0)
        except Timeout:
            return None
        held.callback(self._lease.release)
        return self

    def check(self) -> None:
        """See :class:`Hold`; the claim itself is read, as a holder that woke just now may not know yet."""
        token = self._lease.token
        try:
            mine = token is not None and token.encode() in self._path.read_bytes()
        except FileNotFoundError:
            mine = False
        if self._lost.is_set() or not mine:
            owner = owner_words(self._path.with_suffix(""))
            raise LostLockError(f"it stood still for so long that {owner or 'another run'} took over")

    def when_lost(self, act: Callable[[], None]) -> None:
        """See :class:`Hold`."""
        self._acts.append(act)
        if self._lost.is_set():
            self._tell()

    def _tell(self) -> None:
        self._lost.set()
        while self._acts:
            self._acts.pop()()


class StoreLease(Hold):
    """The store's lock as a lease. An object each time, so that threads lose theirs one by one."""

    def __init__(self, path: Path, seconds: float) -> None:
        from filelock import SoftReadWriteLock

        self._beat = seconds / BEATS
        self._lock = SoftReadWriteLock(
            path,
            is_singleton=False,
            heartbeat_interval=self._beat,
            stale_threshold=seconds,
            poll_interval=POLL_SECONDS,
        )
        self._sure = time.monotonic()

    @contextmanager
    def reading(self) -> Iterator[None]:
        """Hold it with others."""
        with self._lock.read_lock():
            self._sure = time.monotonic()
            yield

    @contextmanager
    def writing(self) -> Iterator[None]:
        """Hold it alone."""
        with self._lock.write_lock():
            self._sure = time.monotonic()
            yield

    def check(self) -> None:
        """See :class:`Hold`."""
        if time.monotonic() - self._sure > self._beat * BEATS / 3:
            time.sleep(1.5 * self._beat)  # frozen, or long at work: the next beat tells which
        self._sure = time.monotonic()
        if self._lock.compromise is not None:
            raise LostLockError(
                "this process stood still for so long that another took over the store's lock"
            )
