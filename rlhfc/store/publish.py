"""Publication: blobs, trees, key document, and last the action record, which nobody can replace.

Each step is durable before the next begins, so that a crash leaves either no record (the blobs
that are there already are found again) or a record whose every part is there.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from rlhfc.store import files
from rlhfc.store.digest import TreeEntry, file_digest, tree_digest
from rlhfc.store.layout import Layout
from rlhfc.store.ledger import utc_now
from rlhfc.store.records import (
    ActionResult,
    DamagedRecordError,
    decode_tree,
    encode_document,
    encode_result,
    encode_tree,
)

Inode = tuple[int, int]


@dataclass(frozen=True)
class Product:
    """What an action yielded, still in its work folder.

    Attributes:
        document: key document of ``key``.
        ports: output port to the folder that holds it.
        metrics: metrics file; it may not exist.
        inputs: tree digests that the action read: their files may be linked into its outputs.
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


class Publisher:
    """Moves a product into a store."""

    def __init__(self, layout: Layout, lookup: Callable[[str], ActionResult | None]) -> None:
        self._layout = layout
        self._lookup = lookup
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
        )
        return self._put_result(result)

    def adopt(self, result: ActionResult, document: Mapping[str, Any]) -> ActionResult:
        """Key document and record for outputs that are in the store already; the record that stands."""
        self.write_document(result.key, document)
        self._sync()
        return self._put_result(result)

    def has_blob(self, digest: str, size: int) -> bool:
        """Whether the blob is there, as far as its size tells."""
        return _has_size(self._layout.blob(digest), size)

    def keep_blob(self, path: Path, digest: str, size: int) -> None:
        """Make a durable file that is known to have this digest a blob."""
        target = self._layout.blob(digest)
        if not _has_size(target, size):
            target.unlink(missing_ok=True)
            self._make_folder(target.parent)
            self._place(path, target, shared=False)

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
        """Make a file a blob; what it holds is neither copied nor hashed twice."""
        state = path.stat(follow_symlinks=False)
        shared = known.get((state.st_dev, state.st_ino))
        if shared is not None:
            return shared, state.st_size
        digest = file_digest(path)
        target = self._layout.blob(digest)
        if not _has_size(target, state.st_size):
            target.unlink(missing_ok=True)  # truncated by a fault: its name belongs to whole bytes
            self._make_folder(target.parent)
            self._place(path, target, shared=state.st_nlink > 1)
        return digest, state.st_size

    def _place(self, path: Path, target: Path, *, shared: bool) -> None:
        """Link a file into the objects; one that has other names elsewhere is copied instead."""
        try:
            if shared:
                files.copy_new(path, target, self._layout.scratch)
            else:
                path.chmod(files.READ_ONLY)
                files.sync_file(path)
                files.link_or_copy(path, target, self._layout.scratch)
        except FileExistsError:
            pass  # another run put the same bytes there
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
                state = self._layout.blob(entry.digest).stat()
                known[(state.st_dev, state.st_ino)] = entry.digest
        return known

    def _make_folder(self, folder: Path) -> None:
        if not folder.is_dir():
            folder.mkdir(parents=True, exist_ok=True)
            self._touched.append(folder.parent)

    def _sync(self) -> None:
        files.sync_folders(self._touched)
        self._touched.clear()


def remove_outputs(work: Path, scratch: Path) -> None:
    """Drop what a published action no longer needs: its outputs and its checkpoints."""
    for name in ("out", "checkpoints"):
        if (work / name).is_dir():
            files.remove_tree(work / name, scratch)


def _has_size(path: Path, size: int) -> bool:
    try:
        return path.stat().st_size == size
    except FileNotFoundError:
        return False
