"""Whether blobs are what they are named after: told by their seals, or by reading them."""

from __future__ import annotations

import errno
import sys
from collections.abc import Iterable
from pathlib import Path

from rlhfc.observe import DOUBT, LOOKED
from rlhfc.store import files
from rlhfc.store.digest import TreeEntry
from rlhfc.store.layout import Layout
from rlhfc.store.quarantine import put_aside
from rlhfc.store.records import DamagedRecordError
from rlhfc.store.seal import is_sealed, verified

# The disk or the file system is broken at this place; anything else that fails is told as it is.
BROKEN = {errno.EIO, errno.EUCLEAN, errno.EBADMSG, errno.ENODATA, errno.EISDIR, errno.ENOTDIR, errno.ELOOP}
Stamp = tuple[str, int, int, int]


class Blobs:
    """The blobs of a store, as far as this process has looked at them. Safe for threads."""

    def __init__(self, layout: Layout, *, rehash: bool = False) -> None:
        """Take the store's layout, and whether seals count for nothing."""
        self._layout = layout
        self._rehash = rehash
        self._read: set[Stamp] = set()

    def check(self, entries: Iterable[TreeEntry]) -> None:
        """See that the blobs of a tree are there and whole; one that is not sealed is read.

        Raises:
            DamagedRecordError: one is not.
        """
        for entry in entries:
            path = self._layout.blob(entry.digest)
            sys.audit(LOOKED, path)
            try:
                state = files.patiently(Path.stat, path)
                if state.st_size != entry.size:
                    found = f"has {state.st_size} bytes, not {entry.size}"
                    raise DamagedRecordError(f"`{entry.path}` {found}: `{path}`")
                if (self._rehash or not is_sealed(state, entry.digest)) and not self.whole(
                    path, entry.digest
                ):
                    raise DamagedRecordError(
                        f"`{entry.path}` holds other bytes than were published: `{path}`"
                    )
            except FileNotFoundError:
                raise DamagedRecordError(f"`{entry.path}` is gone: `{path}`") from None
            except OSError as error:
                raise broken(error, f"`{entry.path}`", path) from error

    def whole(self, path: Path, digest: str) -> bool:
        """Whether a file has the bytes of a digest: reads them, but each file only once.

        Raises:
            OSError: it cannot be read.
        """
        if _stamp(path, digest) in self._read:
            return True
        if not verified(path, digest):
            return False
        self._read.add(_stamp(path, digest))
        return True

    def put_aside(self, digest: str) -> None:
        """Put a blob that is not whole into quarantine: what needs it is a miss from now on.

        Raises:
            OSError: it cannot be moved.
        """
        why = f"its bytes are not those of {digest}"
        put_aside(self._layout.root, self._layout.blob(digest), why)


def broken(error: OSError, what: str, path: Path) -> DamagedRecordError:
    """The damage that an error of the disk stands for.

    Raises:
        OSError: it stands for none: ``error`` itself.
    """
    if error.errno not in BROKEN:
        raise error
    sys.audit(DOUBT)  # it may be read the next time: no plan is remembered that rests on it
    return DamagedRecordError(f"{what} cannot be read, {error.strerror}: `{path}`")


def _stamp(path: Path, digest: str) -> Stamp:
    state = path.stat()
    return digest, state.st_ino, state.st_size, state.st_mtime_ns
