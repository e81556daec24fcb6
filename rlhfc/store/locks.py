"""Locks of a store: one for each action key, and one between all who make references and who removes.

On a local file system they are the kernel's (flock): they end with their holder, and never before.
Elsewhere they are leases (``leases.py``). Which of the two a store has is written into it
(``locks/leases``): whoever finds it on another kind of file system writes that down, and all follow,
also the server that sees the same folder as a local one.
"""

from __future__ import annotations

import errno
import fcntl
import json
import os
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager, suppress
from pathlib import Path
from typing import Protocol

from rlhfc.filesystems import believable, file_system
from rlhfc.store.files import unique_name, write_new
from rlhfc.store.holder import Holder, named, owner_words
from rlhfc.store.layout import Layout
from rlhfc.store.leases import POLL_SECONDS, Hold, KeyLease, StoreLease

LEASE_SECONDS = 60.0
PATIENCE_SECONDS = 5.0  # before it is said for whom the store's lock waits
NO_FLOCK = {errno.ENOLCK, errno.ENOSYS, errno.EOPNOTSUPP}
MAY_NOT_WRITE = {errno.EROFS, errno.EACCES, errno.EPERM}


class StoppedError(Exception):
    """The run is stopping, and what it waited for is still held."""


class Locks:
    """The locks of one store."""

    def __init__(self, layout: Layout, warn: Callable[[str], None]) -> None:
        self._layout, self._warn = layout, warn
        self._guard = layout.root / "locks" / "store"
        self._mine = threading.local()

    @contextmanager
    def key(
        self, key: str, holder: Holder, stopping: Callable[[], bool], on_wait: Callable[[str], None]
    ) -> Iterator[Hold]:
        """Hold the lock of an action key.

        Args:
            key: the action's.
            holder: whom others are told of.
            stopping: whether to give up waiting.
            on_wait: called once when another holds it, with who that is.

        Raises:
            StoppedError: ``stopping`` turned true while another held it.
        """
        path = self._layout.lock(key)
        claim, told = self._claim(path), False
        with ExitStack() as held:
            while not stopping():
                if (hold := claim.take(held)) is not None:
                    with named(path, holder):
                        yield hold
                    return
                if not told:
                    on_wait(owner_words(path) or "another run")
                    told = True
                time.sleep(POLL_SECONDS)
            raise StoppedError

    @contextmanager
    def free_key(self, key: str, holder: Holder) -> Iterator[Hold | None]:
        """Hold the lock of a key if nobody else does; None otherwise."""
        path = self._layout.lock(key)
        with ExitStack() as held:
            hold = self._claim(path).take(held)
            if hold is None:
                yield None
                return
            with named(path, holder):
                yield hold

    @contextmanager
    def sharing(self) -> Iterator[Hold]:
        """Hold off removal: around every moment in which something in the store comes to be referenced.

        Many may do so at once, and a thread may do so again inside. Where nothing can be written nothing
        can be referenced either, and nothing is locked.
        """
        with self._store(shared=True) as hold:
            yield hold

    @contextmanager
    def alone(self, holder: Holder) -> Iterator[Hold]:
        """Be the one who removes, with nobody in :meth:`sharing`; :meth:`Hold.check` before each step."""
        with self._store(shared=False) as hold, named(self._guard, holder):
            yield hold

    def lease_seconds(self) -> float | None:
        """How long a lease lasts in this store without being refreshed; None where the kernel locks."""
        try:
            return float(json.loads(self._layout.leases.read_bytes())["seconds"])
        except FileNotFoundError:
            return None if believable(file_system(str(self._layout.root))) else self._use_leases()
        except (ValueError, KeyError, TypeError):
            return LEASE_SECONDS

    def _use_leases(self) -> float:
        """Write down that this store has leases. All who wait for one must agree on how long it lasts."""
        draft = self._layout.leases.with_name(f".leases.{unique_name()}")
        with suppress(FileExistsError, PermissionError):
            write_new(draft, json.dumps({"seconds": LEASE_SECONDS}).encode())
            try:
                os.link(draft, self._layout.leases)
            finally:
                draft.unlink(missing_ok=True)
        return LEASE_SECONDS

    def _claim(self, path: Path) -> _Claim:
        """A claim to a key's lock, to be tried until it is granted."""
        seconds = self.lease_seconds()
        return _KeyFlock(path, self) if seconds is None else KeyLease(path, seconds)

    @contextmanager
    def _store(self, *, shared: bool) -> Iterator[Hold]:
        inside: Hold | None = getattr(self._mine, "hold", None)
        if inside is not None:
            yield inside
            return
        with ExitStack() as held:
            hold = self._mine.hold = self._take_store(held, shared=shared)
            try:
                yield hold
            finally:
                self._mine.hold = None

    def _take_store(self, held: ExitStack, *, shared: bool) -> Hold:
        seconds = self.lease_seconds()
        if seconds is None:
            try:
                return self._take_flocks(held, fcntl.LOCK_SH if shared else fcntl.LOCK_EX)
            except OSError as error:
                if shared and error.errno in MAY_NOT_WRITE:
                    return Hold()
                if error.errno not in NO_FLOCK:
                    raise
            seconds = self._use_leases()
        lease = StoreLease(self._guard.with_name("store.lease"), seconds)
        held.enter_context(lease.reading() if shared else lease.writing())
        return lease

    def _take_flocks(self, held: ExitStack, operation: int) -> Hold:
        """Pass the gate, then take the lock. Who waits to be alone keeps the gate: nobody else comes in."""
        with ExitStack() as gated:
            self._patiently(lambda: _flock(self._guard.with_name("gate"), operation, gated))
            self._patiently(lambda: _flock(self._guard, operation, held))
        return Hold()

    def _patiently(self, attempt: Callable[[], bool]) -> None:
        told = time.monotonic() + PATIENCE_SECONDS
        while not attempt():
            if time.monotonic() > told:
                told = float("inf")
                self._warn(f"waits for {owner_words(self._guard) or 'other runs'} to let go of the store")
            time.sleep(POLL_SECONDS)


class _Claim(Protocol):
    def take(self, held: ExitStack) -> Hold | None:
        """Take the lock now, to be released with ``held``; None when another has it."""


class _KeyFlock:
    """A claim to the kernel's lock on a file, for as long as the store has those."""

    def __init__(self, path: Path, locks: Locks) -> None:
        self._path, self._locks = path, locks
        self._instead: KeyLease | None = None

    def take(self, held: ExitStack) -> Hold | None:
        seconds = self._locks.lease_seconds()
        if seconds is None:
            try:
                return Hold() if _flock(self._path, fcntl.LOCK_EX, held) else None
            except OSError as error:
                if error.errno not in NO_FLOCK:
                    raise
            seconds = self._locks._use_leases()
        self._instead = self._instead or KeyLease(self._path, seconds)
        return self._instead.take(held)


def _flock(path: Path, operation: int, held: ExitStack) -> bool:
    """Take the kernel's lock on a file that is never removed; False when another has it."""
    descriptor = os.open(path, os.O_RDONLY | os.O_CREAT | os.O_CLOEXEC, 0o666)
    try:
        fcntl.flock(descriptor, operation | fcntl.LOCK_NB)
    except BaseException as error:
        os.close(descriptor)
        if isinstance(error, BlockingIOError):
            return False
        raise
    held.callback(os.close, descriptor)
    return True
