"""Locks on action keys. They save two runs from making the same thing; nothing else rests on them."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

from filelock import FileLock, Timeout

POLL_SECONDS = 0.05


class StoppedError(Exception):
    """The run is stopping, and this stage had not been launched."""


@contextmanager
def key_lock(path: Path, stopping: Callable[[], bool], on_wait: Callable[[], None]) -> Iterator[None]:
    """Hold the lock of a key.

    Args:
        path: the lock's file.
        stopping: whether to give up waiting.
        on_wait: called once when another holds it.

    Raises:
        StoppedError: ``stopping`` turned true while another held it.
    """
    lock = FileLock(path, thread_local=False)
    announced = False
    while True:
        if stopping():
            raise StoppedError
        try:
            lock.acquire(timeout=0.5 if announced else 0, poll_interval=POLL_SECONDS)
            break
        except Timeout:
            if not announced:
                on_wait()
            announced = True
    try:
        yield
    finally:
        lock.release()


@contextmanager
def free_lock(path: Path) -> Iterator[bool]:
    """Hold the lock of a key if nobody else does; tells which."""
    lock = FileLock(path, thread_local=False)
    try:
        lock.acquire(timeout=0)
    except Timeout:
        yield False
        return
    try:
        yield True
    finally:
        lock.release()
