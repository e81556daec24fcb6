"""What all checks share: the store, how thorough they are, and what they have found so far."""

from __future__ import annotations

import re
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from functools import wraps
from pathlib import Path

from rlhfc.store.digest import file_digest
from rlhfc.store.files import listed
from rlhfc.store.layout import Layout
from rlhfc.store.seal import is_sealed, verified
from rlhfc.upkeep.findings import Finding, Kind

DRAFT = re.compile(r"^(?:\..+\.|.+\.json\.)?(?P<pid>\d+)(?:-[0-9a-f]{32})?$")
DRAFT_SECONDS = 3600.0  # its writer may be in another container, where its number means nothing
OLD_SECONDS = 86_400.0  # or on another machine, or its number may have been given to another process
Tell = Callable[[int, int], None]


@dataclass
class Scope:
    """One examination of a store.

    Attributes:
        quick: whether sealed files are taken as they are.
        repair: whether what is read and right may be sealed.
        tell: takes the number of files looked at and of bytes read, now and then.
        bad: digests of blobs that are known to be damaged.
        needed: digests of trees and blobs that results need.
    """

    layout: Layout
    quick: bool
    repair: bool
    tell: Tell
    bad: set[str] = field(default_factory=set)
    needed: set[str] = field(default_factory=set)
    files: int = 0
    total: int = 0
    results: int = 0

    @contextmanager
    def uncounted(self) -> Iterator[None]:
        """What is looked at once more is not counted once more."""
        counted = self.files, self.total, self.results
        yield
        self.files, self.total, self.results = counted

    def place(self, path: Path) -> str:
        """A path as findings name it."""
        return str(path.relative_to(self.layout.root))

    def finding(self, kind: Kind, path: Path, why: str) -> Finding:
        """A finding at a path."""
        return Finding(kind, self.place(path), why)

    def read(self, path: Path) -> bytes:
        """Read a small file.

        Raises:
            OSError: it cannot be read.
        """
        data = path.read_bytes()
        self.count(len(data))
        return data

    def whole(self, path: Path, digest: str) -> bool:
        """Whether a file has the bytes of a digest, as far as this examination wants to know.

        Raises:
            OSError: it cannot be read.
        """
        state = path.stat()
        if self.quick and is_sealed(state, digest):
            self.count(0)
            return True
        self.count(state.st_size)
        return verified(path, digest) if self.repair else file_digest(path) == digest

    def count(self, size: int) -> None:
        """Note that a file has been looked at, and how much of it was read."""
        self.files += 1
        self.total += size
        self.tell(self.files, self.total)


Check = Callable[[Scope, Path], Iterator[Finding]]
NamedCheck = Callable[[Scope, Path, str], Iterator[Finding]]


def blob_digest(path: Path) -> str | None:
    """Digest that a blob in a fanned-out folder is named after; None when it is a stranger there."""
    return _digest(path.parent.name + path.name)


def record_digest(path: Path) -> str | None:
    """Digest that a record in a fanned-out folder is named after; None when it is a stranger there."""
    name = path.name.removesuffix(".json")
    return _digest(path.parent.name + name) if name != path.name else None


def view_digest(path: Path) -> str | None:
    """Digest of the tree that a view is named after; None when it is a stranger among views."""
    return _digest(path.name)


def _digest(digits: str) -> str | None:
    return f"b3:{digits}" if re.fullmatch(r"[0-9a-f]{64}", digits) else None


def named_after(digest_of: Callable[[Path], str | None]) -> Callable[[NamedCheck], Check]:
    """Have a check take the digest that a file is named after; one that has no such name is strange."""

    def wrap(check: NamedCheck) -> Check:
        @wraps(check)
        def checked(scope: Scope, path: Path) -> Iterator[Finding]:
            digest = digest_of(path)
            return strange(scope, path) if digest is None else check(scope, path, digest)

        return checked

    return wrap


def fanned(folder: Path) -> Iterator[Path]:
    """Files of a fanned-out folder, and what does not belong there; what vanishes meanwhile is left out."""
    for path in listed(folder):
        if path.is_dir() and not path.is_symlink():
            yield from listed(path)
        else:
            yield path


def strange(scope: Scope, path: Path) -> Iterator[Finding]:
    """What a file is that has no name of ours: a draft at work, one that was left, or a stranger."""
    found = DRAFT.match(path.name)
    if found is None:
        yield scope.finding(Kind.STRANGER, path, "rlhfc gives no file such a name")
        return
    age = time.time() - _last_change(path)
    if age > OLD_SECONDS or (age > DRAFT_SECONDS and not Path(f"/proc/{found['pid']}").exists()):
        yield scope.finding(Kind.LEFTOVER, path, "a draft that nobody works on")


def _last_change(path: Path) -> float:
    """When something below a path was last changed, in seconds since the epoch."""
    newest = path.lstat().st_ctime
    if path.is_dir() and not path.is_symlink():
        for child in path.rglob("*"):
            with suppress(FileNotFoundError):
                newest = max(newest, child.lstat().st_ctime)
    return newest
