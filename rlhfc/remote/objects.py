"""A place behind a URL of fsspec: S3 and other object stores, SFTP, memory."""

from __future__ import annotations

import errno
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

from rlhfc.remote.place import PARTS, PREFIX, PassingError, RemoteError
from rlhfc.store.files import unique_name

WHOLE = frozenset({"s3", "s3a", "gs", "gcs", "abfs", "abfss", "az"})
"""Protocols where a file appears when all of it has arrived, and not before."""
EXCLUSIVE = frozenset({"s3", "s3a", "memory"})
"""Protocols that can put a file there unless there is one, in one request."""
CHUNK = 16 * 1024 * 1024
LARGE = 100 * 1024**3  # beyond this, parts of CHUNK would be more than S3 allows in one file
AT_ONCE = 2  # parts of one file; each file being sent holds so many chunks in memory
LASTING = frozenset(
    {
        *("NoCredentialsError", "PartialCredentialsError", "ProfileNotFound", "ParamValidationError"),
        *("CredentialRetrievalError", "UnauthorizedSSOTokenError", "InvalidRegionError"),
    }
)
"""Names of errors that asking again does not mend: their classes belong to libraries that may be missing."""
SHOWN = 200


class ObjectPlace:
    """Files behind an fsspec file system."""

    def __init__(self, filesystem: Any, root: str, name: str, protocol: str) -> None:
        self.name = name
        self._files = filesystem
        self._root = f"{root.rstrip('/')}/{PREFIX}"
        self._whole, self._exclusive = protocol in WHOLE, protocol in EXCLUSIVE

    def read(self, path: str, start: int, end: int) -> bytes:
        """See :class:`rlhfc.remote.place.Place`."""
        with told(path):
            try:
                return bytes(self._files.cat_file(self._at(path), start=start, end=end))
            except OSError as error:
                if error.errno == errno.EINVAL:  # S3 has no byte of the range: the file ends before it
                    return b""
                raise

    def size(self, path: str) -> int | None:
        """See :class:`rlhfc.remote.place.Place`."""
        with told(path):
            try:
                found = self._files.info(self._at(path))
            except FileNotFoundError as error:
                _refuse_missing_bucket(error)
                return None
        return int(found["size"]) if found["type"] == "file" else None

    def send(self, source: Path, path: str) -> None:
        """See :class:`rlhfc.remote.place.Place`."""
        with told(path, writing=True):
            if not self._whole:
                self._send_in_two_steps(path, lambda part: self._files.put_file(str(source), part))
                return
            chunk = CHUNK if source.stat().st_size < LARGE else None
            self._files.put_file(str(source), self._at(path), chunksize=chunk, max_concurrency=AT_ONCE)

    def create(self, path: str, data: bytes) -> bool:
        """See :class:`rlhfc.remote.place.Place`; without conditional writes two at once may both do it."""
        with told(path, writing=True):
            if self._exclusive:
                try:
                    self._make_parent(path)
                    self._files.pipe_file(self._at(path), data, mode="create")
                except FileExistsError:
                    return False
                return True
        if self.size(path) is not None:
            return False
        self.replace(path, data)
        return True

    def replace(self, path: str, data: bytes) -> None:
        """See :class:`rlhfc.remote.place.Place`."""
        with told(path, writing=True):
            if self._whole:
                self._files.pipe_file(self._at(path), data)
            else:
                self._send_in_two_steps(path, lambda part: self._files.pipe_file(part, data))

    def names(self, folder: str) -> Iterator[str]:
        """See :class:`rlhfc.remote.place.Place`."""
        top = self._at(folder)
        with told(folder):
            try:
                found = self._files.find(top)
            except FileNotFoundError as error:
                _refuse_missing_bucket(error)
                found = []
        start = top.lstrip("/") + "/"
        yield from (name.lstrip("/").removeprefix(start) for name in sorted(found))

    def _send_in_two_steps(self, path: str, send: Any) -> None:
        part = self._at(f"{PARTS}/{unique_name()}")
        self._files.makedirs(self._at(PARTS), exist_ok=True)
        try:
            send(part)
            self._make_parent(path)
            self._files.mv(part, self._at(path))
        except BaseException:
            with suppress(Exception):  # the failure itself is what is told
                self._files.rm_file(part)
            raise

    def _make_parent(self, path: str) -> None:
        if not self._whole:  # object stores have no folders
            self._files.makedirs(self._at(path).rpartition("/")[0], exist_ok=True)

    def _at(self, path: str) -> str:
        return f"{self._root}/{path}"


@contextmanager
def told(path: str, *, writing: bool = False) -> Iterator[None]:
    """Turn what some dozen libraries raise into errors of ours, in one line each."""
    try:
        yield
    except (RemoteError, FileExistsError):
        raise
    except FileNotFoundError as error:
        _refuse_missing_bucket(error)
        if writing:
            raise RemoteError(f"{words(error)}: `{path}`") from error
        raise FileNotFoundError(path) from error
    except PermissionError as error:
        raise RemoteError(f"not allowed: {words(error)}: `{path}`") from error
    except Exception as error:  # botocore's, aiohttp's and others' share no class
        kind = RemoteError if type(error).__name__ in LASTING else PassingError
        raise kind(f"{words(error)}: `{path}`") from error


def words(error: BaseException) -> str:
    """What an error says, in one printable line of limited length."""
    text = str(error).strip() or type(error).__name__
    line = text.splitlines()[0][:SHOWN]
    return "".join(char if char.isprintable() else "?" for char in line)


def _refuse_missing_bucket(error: BaseException) -> None:
    """A bucket that is missing is no place without results.

    Raises:
        RemoteError: that is what ``error`` says.
    """
    response = getattr(error.__cause__, "response", None) or {}
    if response.get("Error", {}).get("Code") == "NoSuchBucket":
        raise RemoteError("there is no such bucket") from error
