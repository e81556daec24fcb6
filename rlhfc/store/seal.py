"""Seals: the modification time of a file whose bytes have been hashed is made from their digest.

Whatever writes into the file moves that time, and a file that takes another's place brings its own,
so that one look at a file's state tells whether its bytes are still those that were hashed. No index
is needed, nothing goes stale when the store is moved, and it is no clock that is believed: seals lie
between 1980 and 2014. What they cannot show is a disk that forgets; reading the bytes does.
"""

from __future__ import annotations

import os
from contextlib import suppress
from pathlib import Path

from rlhfc.store.digest import file_digest

FIRST = 315_532_800  # 1980: no file system counts from later
BITS = 29
STEP = 2  # seconds: the coarsest time stamps that there are


def seal_time(digest: str) -> int:
    """Modification time of a sealed file, in seconds since the epoch."""
    return FIRST + STEP * (int(digest[3:11], 16) >> (32 - BITS))


def is_sealed(state: os.stat_result, digest: str) -> bool:
    """Whether a file of this state has not been written to since it was hashed to ``digest``."""
    return state.st_mtime_ns // 1_000_000_000 == seal_time(digest)


def seal(path: Path, digest: str) -> None:
    """Seal a file, whose bytes the caller has just hashed.

    Raises:
        OSError: it is not ours to change.
    """
    os.utime(path, ns=_times(path.stat(), digest))


def verified(path: Path, digest: str) -> bool:
    """Read a file: whether its bytes are those of ``digest``. Then it is sealed, where that is allowed.

    Raises:
        OSError: it cannot be read.
    """
    descriptor = os.open(path, os.O_RDONLY)
    try:
        before = os.fstat(descriptor)
        if file_digest(path) != digest:
            return False
        after = os.fstat(descriptor)
        if (before.st_size, before.st_mtime_ns) != (after.st_size, after.st_mtime_ns):
            return False  # written to meanwhile
        if not is_sealed(after, digest):
            with suppress(OSError):  # another user's store, or one that is mounted to be read
                os.utime(descriptor, ns=_times(after, digest))
        return True
    finally:
        os.close(descriptor)


def _times(state: os.stat_result, digest: str) -> tuple[int, int]:
    return state.st_atime_ns, seal_time(digest) * 1_000_000_000
