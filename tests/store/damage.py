"""Ways to damage a file, and a store that holds one of everything."""

import os
from collections.abc import Callable
from pathlib import Path

from rlhfc.store.seal import seal


def write(path: Path, data: bytes) -> None:
    """Write through to a file, whatever its mode; its inode and its mode stay."""
    mode = path.stat().st_mode
    path.chmod(0o644)
    with path.open("r+b") as stream:
        stream.truncate()
        stream.write(data)
    path.chmod(mode)


def flip(path: Path) -> None:
    """Change one bit in the middle."""
    data = bytearray(path.read_bytes() or b" ")
    data[len(data) // 2] ^= 1
    write(path, bytes(data))


def rot(path: Path, digest: str) -> None:
    """Change one bit as a bad disk does: no time stamp tells of it."""
    flip(path)
    seal(path, digest)


def swap(one: Path, other: Path) -> None:
    """Exchange the names of two files."""
    between = one.with_name("between")
    one.rename(between)
    other.rename(one)
    between.rename(other)


ALONE: dict[str, Callable[[Path], None]] = {
    "flip": flip,
    "truncate": lambda path: write(path, path.read_bytes()[: path.stat().st_size // 2]),
    "zero": lambda path: write(path, bytes(path.stat().st_size)),
    "empty": lambda path: write(path, b""),
    "delete": os.unlink,
}
