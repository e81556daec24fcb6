"""Where shared results lie: files by name below one folder or prefix, and how they get there whole.

Layout below the URL (``rlhfc-1/`` is its version):

    objects/ab/cdef…             blobs
    trees/ab/cdef….json          [[path, size, digest], …]
    documents/ab/cdef….json      key documents, by the digest of their bytes
    actions/ab/cdef….json        records by key, put there last: see :mod:`rlhfc.remote.record`
    parts/                       uploads that go on, where a file system shows files while they grow
"""

from __future__ import annotations

import errno
import os
import shutil
import stat
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Protocol

from rlhfc.store import files
from rlhfc.store.layout import hex_of

PREFIX = "rlhfc-1"
PARTS = "parts"
STALE_SECONDS = 7 * 24 * 3600  # a part that has not grown for so long belongs to nobody


class RemoteError(Exception):
    """The place cannot be used; the text says why, in words fit for a warning."""


class PassingError(RemoteError):
    """It could not be used just now: asking again may help."""


class Place(Protocol):
    """Files by name (``objects/ab/cdef…``). Safe for threads; every method may raise :class:`RemoteError`."""

    name: str
    """The URL as people are shown it, without credentials."""

    def read(self, path: str, start: int, end: int) -> bytes:
        """Bytes ``start`` to ``end`` of a file; fewer where it ends before.

        Raises:
            FileNotFoundError: there is no such file.
        """

    def size(self, path: str) -> int | None:
        """Bytes of a file, or None where there is none."""

    def send(self, source: Path, path: str) -> None:
        """Put a local file there; nobody sees it under its name before all of it is there."""

    def create(self, path: str, data: bytes) -> bool:
        """Put a small file there unless there is one; tells whether it did."""

    def replace(self, path: str, data: bytes) -> None:
        """Put a small file there, whatever there is."""

    def names(self, folder: str) -> Iterator[str]:
        """Names of all files below a folder, relative to it."""


def blob_path(digest: str) -> str:
    """Where the bytes of a digest lie."""
    return _fan_out("objects", digest, "")


def tree_path(digest: str) -> str:
    """Where a tree lies."""
    return _fan_out("trees", digest, ".json")


def document_path(digest: str) -> str:
    """Where a key document lies: by its own bytes, because one key has several that say the same of it."""
    return _fan_out("documents", digest, ".json")


def action_path(key: str) -> str:
    """Where the record of an action lies."""
    return _fan_out("actions", key, ".json")


def _fan_out(folder: str, digest: str, suffix: str) -> str:
    digits = hex_of(digest)
    return f"{folder}/{digits[:2]}/{digits[2:]}{suffix}"


class FolderPlace:
    """A folder of this machine, or one that it has mounted. What has a name there is whole and durable."""

    def __init__(self, folder: Path) -> None:
        self.name = str(folder)
        self._folder = folder
        self._tidied = False
        self._root = folder / PREFIX

    def read(self, path: str, start: int, end: int) -> bytes:
        """See :class:`Place`. What is no regular file counts as none: a pipe would never end."""
        self._check(self._folder)
        with _told(path), os.fdopen(self._open(path), "rb") as stream:
            stream.seek(start)
            return stream.read(end - start)

    def _open(self, path: str) -> int:
        try:
            descriptor = os.open(self._root / path, os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK)
        except OSError as error:
            if error.errno in (errno.ELOOP, errno.ENXIO):  # a link, a socket
                raise FileNotFoundError(path) from error
            raise
        if not stat.S_ISREG(os.fstat(descriptor).st_mode):
            os.close(descriptor)
            raise FileNotFoundError(path)
        return descriptor

    def size(self, path: str) -> int | None:
        """See :class:`Place`."""
        with _told(path):
            try:
                state = (self._root / path).stat(follow_symlinks=False)
            except FileNotFoundError:
                return None
        return state.st_size if stat.S_ISREG(state.st_mode) else None

    def send(self, source: Path, path: str) -> None:
        """See :class:`Place`."""
        with _told(path), self._draft() as draft:
            shutil.copyfile(source, draft)
            self._give_name(draft, path)

    def create(self, path: str, data: bytes) -> bool:
        """See :class:`Place`."""
        with _told(path), self._draft() as draft:
            target = self._target(path)
            files.write_new(draft, data, files.READ_ONLY)
            try:
                files.link_or_copy(draft, target, draft.parent)
            except FileExistsError:
                return False
            files.sync_folder(target.parent)
        return True

    def replace(self, path: str, data: bytes) -> None:
        """See :class:`Place`."""
        with _told(path), self._draft() as draft:
            draft.write_bytes(data)
            self._give_name(draft, path)

    def names(self, folder: str) -> Iterator[str]:
        """See :class:`Place`."""
        self._check(self._folder)
        top = self._root / folder
        with _told(folder):
            found = (
                sorted(os.path.relpath(entry.path, top) for entry in files.walk_files(top))
                if top.is_dir()
                else []
            )
        yield from found

    def _remove_stale_parts(self) -> None:
        """Remove what uploads that were killed have left."""
        for part in (self._root / PARTS).glob("*"):
            with suppress(OSError):
                if part.stat().st_mtime < time.time() - STALE_SECONDS:
                    part.unlink()

    @contextmanager
    def _draft(self) -> Iterator[Path]:
        self._check(self._folder.parent)
        folder = self._root / PARTS
        files.make_folder(folder)
        if not self._tidied:
            self._tidied = True
            self._remove_stale_parts()
        draft = folder / files.unique_name()
        try:
            yield draft
        finally:
            draft.unlink(missing_ok=True)

    def _give_name(self, draft: Path, path: str) -> None:
        draft.chmod(files.READ_ONLY)
        files.sync_file(draft)
        target = self._target(path)
        draft.replace(target)
        files.sync_folder(target.parent)

    def _check(self, folder: Path) -> None:
        """A folder that is missing, as where nothing is mounted, is no place without results."""
        if not folder.is_dir():
            raise RemoteError(f"there is no folder `{folder}`")

    def _target(self, path: str) -> Path:
        target = self._root / path
        files.make_folder(target.parent)
        return target


@contextmanager
def _told(path: str) -> Iterator[None]:
    """Tell failures of the folder apart: those that only people can mend are not worth a second try."""
    lasting = {
        errno.EACCES,
        errno.EPERM,
        errno.EROFS,
        errno.ENOSPC,
        errno.EDQUOT,
        errno.ENOTDIR,
        errno.EISDIR,
    }
    try:
        yield
    except FileNotFoundError:
        raise
    except OSError as error:
        kind = RemoteError if error.errno in lasting else PassingError
        raise kind(f"{error.strerror or error}: `{path}`") from error
