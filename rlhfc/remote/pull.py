"""Pulling: everything is fetched into drafts, hashed, and only then given a name in the store.

Nothing that comes from there is believed: sizes are limits for what is read, every blob, tree and
key document must have the digest that it is named by, and the record must be of the key that was
asked for. Nothing is executed or unpickled.
"""

from __future__ import annotations

import os
import shutil
import threading
from collections.abc import Callable, Collection, Mapping
from contextlib import suppress
from pathlib import Path

from blake3 import blake3

from rlhfc.plan.quantities import size as shown_size
from rlhfc.remote.place import Place, action_path, blob_path, document_path, tree_path
from rlhfc.remote.progress import Tally
from rlhfc.remote.record import (
    DOCUMENT_LIMIT,
    RECORD_LIMIT,
    TREE_LIMIT,
    RefusedError,
    Shared,
    decode_shared,
    decode_shared_document,
    decode_shared_tree,
)
from rlhfc.remote.sign import Signers
from rlhfc.remote.workers import for_each
from rlhfc.store import files
from rlhfc.store.digest import TreeEntry
from rlhfc.store.leases import LostLockError
from rlhfc.store.publish import Publisher
from rlhfc.store.records import ActionResult
from rlhfc.store.store import Store

PART = 16 * 1024 * 1024


class GivenUpError(Exception):
    """The user asked to stop."""


class Finder:
    """Asks a place for records; needs no store."""

    def __init__(self, place: Place, signers: Signers | None) -> None:
        self._place, self._signers = place, signers

    def find(self, key: str) -> Shared | None:
        """The record of a key, in one request; None where there is none.

        Raises:
            RefusedError: there is one that does not count.
            RemoteError: the place cannot be used.
        """
        try:
            data = self._place.read(action_path(key), 0, RECORD_LIMIT + 1)
        except FileNotFoundError:
            return None
        try:
            found = decode_shared(data, key)
            if self._signers is not None:
                self._signers.check(found)
        except RefusedError as error:
            raise RefusedError(f"the record of `{key}` in `{self._place.name}`: {error}") from error
        return found

    def document(self, record: Shared) -> dict[str, object]:
        """Key document of a record.

        Raises:
            RefusedError: it is gone, or not what the record or the key says.
            RemoteError: the place cannot be used.
        """
        named, path = record.document, document_path(record.document.digest)
        if named.size > DOCUMENT_LIMIT:
            raise self._refused(path, f"it has more than {DOCUMENT_LIMIT} bytes")
        try:
            data = self._place.read(path, 0, named.size + 1)
            return decode_shared_document(data, named, record.key)
        except FileNotFoundError:
            raise self._refused(path, "it is not there") from None
        except RefusedError as error:
            raise self._refused(path, str(error)) from error

    def tree(self, digest: str) -> list[TreeEntry]:
        """Rows of a tree.

        Raises:
            RefusedError: it is gone, another, or no folder can be made of it.
            RemoteError: the place cannot be used.
        """
        path = tree_path(digest)
        try:
            return decode_shared_tree(self._place.read(path, 0, TREE_LIMIT + 1), digest)
        except FileNotFoundError:
            raise self._refused(path, "it is not there") from None
        except RefusedError as error:
            raise self._refused(path, str(error)) from error

    def fetch(self, digest: str, size: int, draft: Path, tally: Tally, stopping: Callable[[], bool]) -> None:
        """Fetch a blob into a file, part by part, and prove it.

        Raises:
            RefusedError: it is gone, shorter than announced, or has another digest.
            GivenUpError: ``stopping`` turned true.
            RemoteError: the place cannot be used.
            OSError: the disk is full or failing.
        """
        path, hasher = blob_path(digest), blake3(max_threads=blake3.AUTO)
        with draft.open("xb") as stream:
            for at in range(0, size, PART):
                if stopping():
                    raise GivenUpError
                wanted = min(PART, size - at)
                try:
                    data = self._place.read(path, at, at + wanted)
                except FileNotFoundError:
                    raise self._refused(path, "it is not there") from None
                if len(data) != wanted:  # more: whoever answers does not care what was asked for
                    raise self._refused(path, f"it does not have the {size} bytes that were announced")
                hasher.update(data)
                stream.write(data)
                tally.add(len(data))
            stream.flush()
            os.fsync(stream.fileno())
        if f"b3:{hasher.hexdigest()}" != digest:
            raise self._refused(path, "its content is not what its name says")

    def _refused(self, path: str, why: str) -> RefusedError:
        return RefusedError(f"`{path}` in `{self._place.name}`: {why}")


class Puller:
    """Takes results from one place into one store."""

    def __init__(
        self,
        store: Store,
        finder: Finder,
        source: str,
        tally: Tally,
        stopping: Callable[[], bool] = lambda: False,
    ) -> None:
        self._store, self._finder, self._source = store, finder, source
        self.tally = tally
        self._abandoned = threading.Event()
        self._stopping = lambda: self._abandoned.is_set() or stopping()

    def take(self, record: Shared, ports: Collection[str] | None = None) -> ActionResult:
        """Take a result into the store: all of it, or nothing under its key.

        Removal is not held off while files come in, which may take hours; so when all have come it is
        seen, with removal held off, whether they are there still.

        Args:
            record: as :meth:`Finder.find` has given it.
            ports: outputs that it must have; None takes it as it is.

        Raises:
            RefusedError: something does not fit what was announced; the text names it.
            GivenUpError: the user asked to stop.
            RemoteError: the place cannot be used.
            OSError: the disk is full or failing.
        """
        result = record.yielded
        if ports is not None and set(result.outputs) != set(ports):
            raise RefusedError(f"the record of `{record.key}` in `{self._source}` has other outputs")
        trees = {digest: self._finder.tree(digest) for digest in dict.fromkeys(result.outputs.values())}
        blobs = self._announced(record, trees)
        self._abandoned.clear()
        document = self._finder.document(record)
        publisher = Publisher(self._store.layout, self._store.lookup)
        missing = self._missing(publisher, blobs)
        for _ in range(len(blobs) - len(missing)):
            self.tally.skip()
        while True:
            self._fetch(publisher, missing)
            # Frozen until removal took the lock: what is there is looked at once more.
            with suppress(LostLockError), self._store.locks.sharing() as hold:
                missing = self._missing(publisher, blobs)
                if not missing:
                    last = Publisher(self._store.layout, self._store.lookup, hold.check)
                    taken = last.receive(result, trees.values(), document)
                    break
        self._store.ledger.append("pulled", key=record.key, source=self._source)
        return taken

    @staticmethod
    def _missing(publisher: Publisher, blobs: Mapping[str, int]) -> dict[str, int]:
        return {digest: size for digest, size in blobs.items() if not publisher.has_blob(digest, size)}

    def _fetch(self, publisher: Publisher, missing: Mapping[str, int]) -> None:
        self._check_space(sum(missing.values()))
        for_each(missing.items(), lambda blob: self._take_blob(publisher, *blob), self._abandoned.set)

    def _announced(self, record: Shared, trees: dict[str, list[TreeEntry]]) -> dict[str, int]:
        """Size of every blob; whoever announces two for one, or another sum, is not believed at all."""
        found: dict[str, int] = {}
        listed = [(entry.digest, entry.size) for entries in trees.values() for entry in entries]
        if record.metrics is not None:
            listed.append((record.metrics.digest, record.metrics.size))
        for digest, size in listed:
            if found.setdefault(digest, size) != size:
                raise RefusedError(f"trees of `{record.key}` in `{self._source}` have two sizes for one file")
        total = sum(entry.size for tree in record.result.outputs.values() for entry in trees[tree])
        if total != record.result.size:
            text = f"the record of `{record.key}` in `{self._source}` says {record.result.size} bytes"
            raise RefusedError(f"{text}, and its trees have {total}")
        return found

    def _check_space(self, needed: int) -> None:
        free = shutil.disk_usage(self._store.layout.root).free
        if needed > free:
            raise RefusedError(
                f"it needs {shown_size(needed)}, and `{self._store.layout.root}` has {shown_size(free)} free"
            )

    def _take_blob(self, publisher: Publisher, digest: str, size: int) -> None:
        draft = self._store.layout.scratch / files.unique_name()
        try:
            self._finder.fetch(digest, size, draft, self.tally, self._stopping)
            publisher.keep_blob(draft, digest)
        finally:
            draft.unlink(missing_ok=True)
        self.tally.done()
