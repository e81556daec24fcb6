"""File operations that a crash leaves either undone or done."""

from __future__ import annotations

import errno
import fcntl
import os
import shutil
import time
import uuid
from collections.abc import Callable, Iterable, Iterator
from pathlib import Path
from typing import TypeVar

from rlhfc.filesystems import believable, file_system

Found = TypeVar("Found")

READ_ONLY = 0o444
COPY_BYTES = 8 * 1024 * 1024
# A link that cannot be made: other file system, no links there, too many of them, not allowed.
NO_LINK = {errno.EXDEV, errno.EPERM, errno.EMLINK, errno.ENOTSUP, errno.ENOSYS, errno.EACCES}
NO_CLONE = NO_LINK | {errno.EINVAL, errno.ENOTTY, errno.EBADF, errno.ETXTBSY}
FICLONE = 0x40049409  # from linux/fs.h: let a file share all blocks of another until one is written to


# Between looks at a name that the folder lists and the file system hides.
PAUSES = (0.0, 0.05, 0.2, 0.5, 1.0)


def patiently(look: Callable[[Path], Found], path: Path) -> Found:
    """What ``look`` finds at a path.

    Over a network, what another machine has just made may be hidden by a cache of names, and a handle
    may go stale. Opening the folder has its names asked for again; a name that is then listed is looked
    for a few times more.

    Raises:
        FileNotFoundError: nothing is there.
        OSError: as ``look``.
    """
    for pause in PAUSES:
        try:
            return look(path)
        except OSError as error:
            hidden = error.errno == errno.ENOENT and _listed_after_all(path)
            if not hidden and error.errno != errno.ESTALE:
                raise
        time.sleep(pause)
    return look(path)


def _listed_after_all(path: Path) -> bool:
    if believable(file_system(str(path))):
        return False
    try:
        return path.name in os.listdir(path.parent)  # noqa: PTH208 - opens the folder, as it must
    except OSError:
        return False


def sync_file(path: Path) -> None:
    """Make a file's bytes durable."""
    descriptor = os.open(path, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def sync_folder(path: Path) -> None:
    """Make the names in a folder durable."""
    descriptor = os.open(path, os.O_RDONLY | os.O_DIRECTORY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def make_folder(path: Path) -> None:
    """Make a folder and its parents, each name durable."""
    if path.is_dir():
        return
    make_folder(path.parent)
    path.mkdir(exist_ok=True)
    sync_folder(path.parent)


def unique_name() -> str:
    """Make a name that no other process takes."""
    return f"{os.getpid()}-{uuid.uuid4().hex}"


def write_new(path: Path, data: bytes, mode: int = 0o644) -> None:
    """Write a file that is not there yet, durably.

    Raises:
        FileExistsError: it is there.
    """
    descriptor = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL, mode)
    with os.fdopen(descriptor, "wb") as stream:
        stream.write(data)
        stream.flush()
        os.fsync(stream.fileno())


def write_atomic(path: Path, data: bytes, mode: int = 0o644) -> None:
    """Write or replace a file: readers and crashes see the old one or the new one."""
    draft = path.with_name(f".{path.name}.{unique_name()}")
    try:
        write_new(draft, data, mode)
        draft.replace(path)
    finally:
        draft.unlink(missing_ok=True)
    sync_folder(path.parent)


def materialise(source: Path, target: Path, scratch: Path) -> None:
    """Give ``target`` the bytes of ``source``: by reflink, else by hard link, else by a copy.

    Raises:
        FileExistsError: ``target`` is there.
    """
    if not clone(source, target):
        link_or_copy(source, target, scratch)


def clone(source: Path, target: Path) -> bool:
    """Make ``target`` a read-only file of its own that shares its blocks with ``source``, where that works.

    It has the modification time of ``source``, and is durable.

    Raises:
        FileExistsError: ``target`` is there.
    """
    with source.open("rb") as there, target.open("xb") as made:
        try:
            fcntl.ioctl(made.fileno(), FICLONE, there.fileno())
            _finish(made.fileno(), os.fstat(there.fileno()))
        except OSError as error:
            target.unlink(missing_ok=True)
            if error.errno not in NO_CLONE:
                raise
            return False
    return True


def link_or_copy(source: Path, target: Path, scratch: Path) -> None:
    """Give ``target`` the bytes of ``source``: by hard link, else by a durable read-only copy.

    Raises:
        FileExistsError: ``target`` is there.
    """
    try:
        os.link(source, target, follow_symlinks=False)
    except OSError as error:
        if error.errno not in NO_LINK:
            raise
        copy_new(source, target, scratch)


def copy_new(source: Path, target: Path, scratch: Path) -> None:
    """Copy to ``target`` by way of the folder ``scratch`` on the same file system.

    The copy is read-only, of the same modification time, and durable before it takes its name.

    Raises:
        FileExistsError: ``target`` is there.
    """
    draft = scratch / unique_name()
    try:
        copy(source, draft)
        if target.exists():
            raise FileExistsError(errno.EEXIST, "exists", str(target))
        draft.replace(target)
    finally:
        draft.unlink(missing_ok=True)


def copy(source: Path, target: Path) -> None:
    """Make ``target`` a durable, read-only file of its own with bytes and modification time of ``source``.

    Raises:
        FileExistsError: ``target`` is there.
    """
    if clone(source, target):
        return
    with source.open("rb") as there, target.open("xb") as made:
        shutil.copyfileobj(there, made, COPY_BYTES)
        made.flush()
        _finish(made.fileno(), os.fstat(there.fileno()))


def _finish(descriptor: int, like: os.stat_result) -> None:
    os.fchmod(descriptor, READ_ONLY)
    os.utime(descriptor, ns=(like.st_atime_ns, like.st_mtime_ns))
    os.fsync(descriptor)


def remove_tree(path: Path, scratch: Path) -> None:
    """Remove a folder: first its name, so that nobody sees half of it."""
    grave = scratch / unique_name()
    try:
        path.rename(grave)
    except FileNotFoundError:
        return
    shutil.rmtree(grave, ignore_errors=True)


def listed(folder: Path) -> list[Path]:
    """What lies in a folder, by name; nothing where it is not there, or is gone meanwhile."""
    try:
        return sorted(folder.iterdir())
    except (FileNotFoundError, NotADirectoryError):
        return []


def walk_files(folder: Path) -> Iterator[os.DirEntry[str]]:
    """Yield everything below ``folder`` that is not a folder; links are not followed."""
    with os.scandir(folder) as entries:
        for entry in entries:
            if entry.is_dir(follow_symlinks=False):
                yield from walk_files(Path(entry.path))
            else:
                yield entry


def sync_folders(folders: Iterable[Path]) -> None:
    """Make the names in each folder durable, each folder once."""
    for folder in dict.fromkeys(folders):
        sync_folder(folder)
