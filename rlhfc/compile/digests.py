"""Content digests of local files and folders, with a disposable stat cache."""

from __future__ import annotations

import contextlib
import json
import os
import sys
import time
import zlib
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, Protocol

from rlhfc.compile.normalise import SourceFile, read_source
from rlhfc.errors import Diagnostic, UserError
from rlhfc.filesystems import believable, file_system
from rlhfc.observe import LOOKED
from rlhfc.store.digest import TreeEntry, file_digest, tree_digest

CACHE_FORMAT = 3
# A file that was written this close to its hashing may be written again within the same time stamp.
RACY_NS = 2_000_000_000
# Below this many bytes reading is quicker than doubting.
SMALL = 64 * 1024 * 1024
Stamp = tuple[int, int, int, int]


class Digester(Protocol):
    """Digests of what is on disk."""

    def file(self, path: Path) -> str:
        """Blob digest of one file's bytes.

        Raises:
            UserError: the file cannot be read, or changes meanwhile.
        """

    def folder(self, path: Path) -> str:
        """Tree digest of a folder; names that begin with a dot are ignored.

        Raises:
            UserError: a file in it cannot be read or changes meanwhile, or there is none.
        """

    def source(self, path: Path) -> SourceFile:
        """Digest of Python source without comments, docstrings and blank lines, and what it imports.

        Raises:
            UserError: the file cannot be read, or is not Python.
        """


class CachedDigester:
    """Reads a file again only when size, times or inode have changed since it was hashed.

    Where these prove nothing (see :mod:`rlhfc.filesystems`), small files are read each time; large
    ones are believed, and ``believed`` names them with their file system.
    """

    def __init__(
        self,
        cache: Path | None = None,
        clock: Callable[[], int] = time.time_ns,
        *,
        rehash: bool = False,
        type_of: Callable[[str], str] = file_system,
    ) -> None:
        """Take the file to keep the cache in (None for none) and a clock in nanoseconds.

        Args:
            cache: the file; it may not be there yet.
            clock: nanoseconds since the epoch.
            rehash: read every file, whatever the cache holds.
            type_of: path to the type of its file system.
        """
        self.believed: dict[str, str] = {}
        self._cache = cache
        self._clock = clock
        self._entries = _read_cache(cache)
        self._known = {} if rehash else self._entries
        self._young: dict[str, list[Any]] | None = {}
        self._types: dict[int, str] = {}
        self._type_of = type_of
        self._changed = False

    def file(self, path: Path) -> str:
        """See :class:`Digester`."""
        return str(self._remember("blob", path, file_digest))

    def source(self, path: Path) -> SourceFile:
        """See :class:`Digester`."""

        def read(file: Path) -> list[Any]:
            found = read_source(file)
            return [found.digest, list(found.imports), found.declares_only]

        digest, imports, declares_only = self._remember("python", path, read)
        return SourceFile(digest, tuple(imports), declares_only)

    def folder(self, path: Path) -> str:
        """See :class:`Digester`."""
        with _as_user_error(path):
            names = sorted(_files_below(path, "", ()))
        if not names:
            raise UserError(Diagnostic(f"folder `{path}` holds no file"))
        return tree_digest(
            TreeEntry(name, (path / name).stat().st_size, self.file(path / name)) for name in names
        )

    def save(self) -> None:
        """Write the cache when its folder exists. A cache that cannot be written is no error.

        The plan is made then: from here on what was written shortly before is read each time.
        """
        self._young = None
        if self._cache is None or not self._changed or not self._cache.parent.is_dir():
            return
        draft = self._cache.with_name(f".{self._cache.name}.{os.getpid()}")
        with contextlib.suppress(OSError):
            draft.write_bytes(_encode_cache(dict(self._entries)))
            draft.replace(self._cache)

    def _remember(self, what: str, path: Path, compute: Callable[[Path], Any]) -> Any:
        """Compute something of a file's content, which must be plain JSON, or take it from the cache."""
        name = f"{what}:{path.absolute()}"
        with _as_user_error(path):
            stamp, seen = _stamp(path), self._clock()
            young = (self._young or {}).get(name)
            if young is not None and tuple(young[:-1]) == stamp:
                return young[-1]
            known = self._known.get(name)
            if known is not None and tuple(known[:-1]) == stamp and self._believe(path, stamp[0]):
                return known[-1]
            content = compute(path)
            if _stamp(path) != stamp:
                raise UserError(Diagnostic(f"file `{path}` changes while it is read", hint="wait and repeat"))
        if self._young is not None:
            self._young[name] = [*stamp, content]  # no byte is read twice for one plan
        if max(stamp[1], stamp[2]) < seen - RACY_NS:
            self._entries[name] = [*stamp, content]
            self._changed = True
        return content

    def _believe(self, path: Path, size: int) -> bool:
        """Whether an unchanged stamp is enough."""
        device = path.stat().st_dev
        kind = self._types.get(device) or self._types.setdefault(device, self._type_of(str(path)))
        if believable(kind):
            return True
        if size <= SMALL:
            return False
        self.believed[str(path)] = kind
        return True


def _stamp(path: Path) -> Stamp:
    """Size in bytes, both times in nanoseconds, inode."""
    sys.audit(LOOKED, path)
    status = path.stat()
    return status.st_size, status.st_mtime_ns, status.st_ctime_ns, status.st_ino


def _encode_cache(entries: dict[str, Any]) -> bytes:
    """A line with the format and a checksum, and a line with the entries."""
    body = json.dumps(entries).encode()
    return json.dumps({"format": CACHE_FORMAT, "crc": zlib.crc32(body)}).encode() + b"\n" + body


def decode_cache(data: bytes) -> dict[str, Any]:
    """Read a stat cache back.

    Raises:
        ValueError: it is damaged, or of another format.
    """
    head, _, body = data.partition(b"\n")
    if json.loads(head) != {"format": CACHE_FORMAT, "crc": zlib.crc32(body)}:
        raise ValueError("it is not what was written, or of another version")
    entries: dict[str, Any] = json.loads(body)
    return entries


def _read_cache(cache: Path | None) -> dict[str, Any]:
    """The entries; none when the file is missing, damaged or of another format."""
    if cache is None:
        return {}
    try:
        return decode_cache(cache.read_bytes())
    except (OSError, ValueError):
        return {}


def _files_below(folder: Path, prefix: str, above: tuple[tuple[int, int], ...]) -> Iterator[str]:
    """Relative POSIX paths of the files, links followed; ``above`` breaks cycles of linked folders."""
    sys.audit(LOOKED, folder)
    status = folder.stat()
    here = (status.st_dev, status.st_ino)
    if here in above:
        return
    with os.scandir(folder) as entries:
        for entry in entries:
            if entry.name.startswith(".") or entry.name == "__pycache__":
                continue
            if entry.is_dir():
                yield from _files_below(Path(entry.path), f"{prefix}{entry.name}/", (*above, here))
            elif entry.is_file():
                yield f"{prefix}{entry.name}"
            elif entry.is_symlink():
                Path(entry.path).stat()  # a link to nowhere is a file that is missing


@contextlib.contextmanager
def _as_user_error(path: Path) -> Iterator[None]:
    try:
        yield
    except OSError as error:
        raise UserError(Diagnostic(f"cannot read `{error.filename or path}`: {error.strerror}")) from error
