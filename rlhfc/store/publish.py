"""Publication: blobs, trees, key document, and last the action record, which nobody can replace.

Each step is durable before the next begins, so that a crash leaves either no record (the blobs
that are there already are found again) or a record whose every part is there.
"""

from __future__ import annotations

import errno
import os
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from rlhfc.store import files
from rlhfc.store.blobs import BROKEN
from rlhfc.store.digest import TreeEntry, file_digest, tree_digest
from rlhfc.store.layout import Layout
from rlhfc.store.ledger import utc_now
from rlhfc.store.quarantine import put_aside
from rlhfc.store.records import (
    ActionResult,
    DamagedRecordError,
    decode_tree,
    encode_document,
    encode_result,
    encode_tree,
)
from rlhfc.store.seal import is_sealed, seal, verified

Inode = tuple[int, int]


@dataclass(frozen=True)
class Product:
    """What an action yielded, still in its work folder.

    Attributes:
        document: key document of ``key``.
        ports: output port to the folder that holds it.
        metrics: metrics file; it may not exist.
        inputs: tree digests that the action read: their files may be linked into its outputs.
        adjusted: as in :class:`ActionResult`.
    """

    run: str
    pipeline: str
    stage: str
    key: str
    document: Mapping[str, Any]
    ports: Mapping[str, Path]
    metrics: Path
    summary: Mapping[str, float | int | str]
    seconds: float
    attempts: int
    inputs: tuple[str, ...] = ()
    adjusted: Mapping[str, int] = field(default_factory=dict)


class Publisher:
    """Moves a product into a store."""

    def __init__(
        self,
        layout: Layout,
        lookup: Callable[[str], ActionResult | None],
        still_shared: Callable[[], None] = lambda: None,
    ) -> None:
        """Take where to put it, how to find it again, and what raises once removal is no longer held off."""
        self._layout = layout
        self._lookup = lookup
        self._still_shared = still_shared
        self._touched: list[Path] = []

    def publish(self, product: Product) -> ActionResult:
        """Blobs, trees, key document, record; the record that stands in the end.

        Raises:
            OSError: the disk is full or failing; then no record has been made.
        """
        known = self._known_inodes(product.inputs)
        trees = {port: self._put_folder(folder, known) for port, folder in product.ports.items()}
        metrics = self._put_file(product.metrics, {})[0] if product.metrics.exists() else None
        self._sync()
        outputs = {port: self._put_tree(entries) for port, entries in trees.items()}
        self.write_document(product.key, product.document)
        self._sync()
        result = ActionResult(
            key=product.key,
            outputs=outputs,
            metrics=metrics,
            summary=product.summary,
            seconds=round(product.seconds, 3),
            attempts=product.attempts,
            finished=utc_now(),
            size=sum(entry.size for entries in trees.values() for entry in entries),
            adjusted=dict(product.adjusted),
        )
        return self._put_result(result)

    def adopt(self, result: ActionResult, document: Mapping[str, Any]) -> ActionResult:
        """Key document and record for outputs that are in the store already; the record that stands."""
        self.write_document(result.key, document)
        self._sync()
        return self._put_result(result)

    def has_blob(self, digest: str, size: int) -> bool:
        """Whether the blob is there: told by its size and its seal; one without a seal is read.

        Raises:
            OSError: it cannot be read, for another reason than that the disk is broken there.
        """
        path = self._layout.blob(digest)
        try:
            state = path.stat()
            return state.st_size == size and (is_sealed(state, digest) or verified(path, digest))
        except OSError as error:
            if error.errno not in BROKEN | {errno.ENOENT}:
                raise
            return False

    def keep_blob(self, path: Path, digest: str) -> None:
        """Make a file that is known to have this digest a blob."""
        target = self._layout.blob(digest)
        if not self._is_there(target, digest):
            self._make_folder(target.parent)
            self._place(path, target, digest, shared=False)

    def receive(
        self, result: ActionResult, trees: Iterable[list[TreeEntry]], document: Mapping[str, Any]
    ) -> ActionResult:
        """Trees, key document and record of a result whose blobs have been kept; the record that stands.

        Raises:
            OSError: the disk is full or failing; then no record has been made.
        """
        self._sync()
        for entries in trees:
            self._put_tree(entries)
        return self.adopt(result, document)

    def write_document(self, key: str, document: Mapping[str, Any]) -> None:
        """Keep a key document."""
        path = self._layout.document(key)
        self._make_folder(path.parent)
        files.write_atomic(path, encode_document(document))

    def _put_result(self, result: ActionResult) -> ActionResult:
        path = self._layout.action(result.key)
        self._make_folder(path.parent)
        self._sync()
        self._still_shared()
        draft = self._layout.scratch / files.unique_name()
        files.write_new(draft, encode_result(result), files.READ_ONLY)
        try:
            while True:
                try:
                    os.link(draft, path)
                except FileExistsError:
                    winner = self._lookup(result.key)
                    if winner is not None:
                        return winner
                    path.unlink(missing_ok=True)  # damaged: it stands for nothing
                else:
                    files.sync_folder(path.parent)
                    return result
        finally:
            draft.unlink(missing_ok=True)

    def _put_folder(self, folder: Path, known: Mapping[Inode, str]) -> list[TreeEntry]:
        entries = []
        for found in files.walk_files(folder):
            digest, size = self._put_file(Path(found.path), known)
            entries.append(TreeEntry(os.path.relpath(found.path, folder), size, digest))
        return sorted(entries)

    def _put_file(self, path: Path, known: Mapping[Inode, str]) -> tuple[str, int]:
        """Make a file a blob; what it holds is neither copied nor hashed twice.

        Raises:
            OSError: it changes meanwhile, or the disk fails.
        """
        before = path.stat(follow_symlinks=False)
        shared = known.get((before.st_dev, before.st_ino))
        if shared is not None and is_sealed(before, shared):
            return shared, before.st_size
        digest = file_digest(path)
        after = path.stat(follow_symlinks=False)
        if (before.st_size, before.st_mtime_ns) != (after.st_size, after.st_mtime_ns):
            raise _changes(path)
        target = self._layout.blob(digest)
        if not self._is_there(target, digest):
            self._make_folder(target.parent)
            self._place(path, target, digest, shared=before.st_nlink > 1)
        return digest, before.st_size

    def _is_there(self, target: Path, digest: str) -> bool:
        """Whether a blob is there with its bytes; another file under its name goes into quarantine."""
        try:
            if verified(target, digest):
                return True
        except FileNotFoundError:
            return False
        except OSError as error:
            if error.errno not in BROKEN:
                raise
        put_aside(self._layout.root, target, f"its bytes are not those of {digest}")
        return False

    def _place(self, path: Path, target: Path, digest: str, *, shared: bool) -> None:
        """Link a file into the objects; one that has other names elsewhere is copied instead."""
        draft = self._layout.scratch / files.unique_name() if shared else None
        try:
            if draft is not None:
                files.copy(path, draft)
                if file_digest(draft) != digest:
                    raise _changes(path)
            own = draft or path
            own.chmod(files.READ_ONLY)
            seal(own, digest)
            files.sync_file(own)
            files.link_or_copy(own, target, self._layout.scratch)
        except FileExistsError:
            pass  # another run put the same bytes there
        finally:
            if draft is not None:
                draft.unlink(missing_ok=True)
        self._touched.append(target.parent)

    def _put_tree(self, entries: list[TreeEntry]) -> str:
        digest = tree_digest(entries)
        path = self._layout.tree(digest)
        try:
            decode_tree(path.read_bytes(), digest)
        except (FileNotFoundError, DamagedRecordError):
            self._make_folder(path.parent)
            files.write_atomic(path, encode_tree(entries), files.READ_ONLY)
        return digest

    def _known_inodes(self, trees: Iterable[str]) -> dict[Inode, str]:
        known = {}
        for digest in trees:
            for entry in decode_tree(self._layout.tree(digest).read_bytes(), digest):
                # A view's file may be the blob itself, or a file of its own.
                for path in (self._layout.blob(entry.digest), self._layout.view(digest) / entry.path):
                    if path.exists():
                        state = path.stat()
                        known[(state.st_dev, state.st_ino)] = entry.digest
        return known

    def _make_folder(self, folder: Path) -> None:
        if not folder.is_dir():
            folder.mkdir(parents=True, exist_ok=True)
            self._touched.append(folder.parent)

    def _sync(self) -> None:
        files.sync_folders(self._touched)
        self._touched.clear()


def _changes(path: Path) -> OSError:
    return OSError(errno.EBUSY, "changes while it is published", str(path))
