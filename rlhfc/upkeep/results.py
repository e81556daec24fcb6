"""Checks of what a result is made of: blobs, trees, action records, key documents, views."""

from __future__ import annotations

import stat
from collections.abc import Iterator, Sequence
from contextlib import suppress
from pathlib import Path

from rlhfc.compile.keys import ACTION_TAG
from rlhfc.store.digest import TreeEntry, tagged_digest
from rlhfc.store.files import walk_files
from rlhfc.store.records import (
    ActionResult,
    DamagedRecordError,
    decode_document,
    decode_result,
    decode_tree,
)
from rlhfc.upkeep.findings import Finding, Kind
from rlhfc.upkeep.scope import Scope, blob_digest, fanned, named_after, record_digest, view_digest


@named_after(blob_digest)
def check_blob(scope: Scope, path: Path, digest: str) -> Iterator[Finding]:
    """A blob: a regular file with the bytes that it is named after, read-only."""
    scope.bad.discard(digest)
    state = path.lstat()
    try:
        if not stat.S_ISREG(state.st_mode):
            why = "it is no regular file"
        elif scope.whole(path, digest):
            if state.st_mode & 0o222:
                yield scope.finding(Kind.BLOB_WRITABLE, path, f"its mode is {stat.S_IMODE(state.st_mode):o}")
            return
        else:
            why = "its bytes are not those that it is named after"
    except FileNotFoundError:
        raise
    except OSError:
        scope.bad.add(digest)
        raise
    scope.bad.add(digest)
    yield scope.finding(Kind.BLOB_DAMAGED, path, why)


@named_after(record_digest)
def check_tree(scope: Scope, path: Path, digest: str) -> Iterator[Finding]:
    """A tree record: rows that hash to its name."""
    try:
        decode_tree(scope.read(path), digest)
    except DamagedRecordError as damage:
        yield scope.finding(Kind.TREE_DAMAGED, path, str(damage))


@named_after(record_digest)
def check_record(scope: Scope, path: Path, key: str) -> Iterator[Finding]:
    """An action record: as it was written, under its key, with all its parts there and whole."""
    try:
        result = decode_result(scope.read(path), key)
    except DamagedRecordError as damage:
        yield scope.finding(Kind.RECORD_DAMAGED, path, str(damage))
        return
    scope.results += 1
    lacks = []
    for port, tree in result.outputs.items():  # all of them: what is whole is needed all the same
        try:
            _check_parts(scope, tree)
        except DamagedRecordError as damage:
            lacks.append(f"port `{port}`: {damage}")
    beside = list(_check_beside(scope, path, result))
    if lacks:
        yield scope.finding(Kind.RECORD_INCOMPLETE, path, lacks[0])
    else:
        yield from beside


def _check_parts(scope: Scope, tree: str) -> None:
    """See that a tree and its blobs are there.

    Raises:
        DamagedRecordError: something is not.
    """
    scope.needed.add(tree)
    entries = tree_of(scope, tree)
    scope.needed.update(entry.digest for entry in entries)
    for entry in entries:
        try:
            size = scope.layout.blob(entry.digest).stat().st_size
        except FileNotFoundError:
            raise DamagedRecordError(f"`{entry.path}` is gone") from None
        if size != entry.size or entry.digest in scope.bad:
            raise DamagedRecordError(f"`{entry.path}` is damaged")


def tree_of(scope: Scope, tree: str) -> list[TreeEntry]:
    """Rows of a tree.

    Raises:
        DamagedRecordError: it is gone or damaged.
    """
    try:
        return decode_tree(scope.layout.tree(tree).read_bytes(), tree)
    except FileNotFoundError:
        raise DamagedRecordError("its tree is gone") from None


def _check_beside(scope: Scope, path: Path, result: ActionResult) -> Iterator[Finding]:
    """What a result has besides its outputs."""
    if result.metrics is not None:
        scope.needed.add(result.metrics)
        if result.metrics in scope.bad or not scope.layout.blob(result.metrics).exists():
            yield scope.finding(Kind.METRICS_LOST, path, "its metrics are gone or damaged")
    if not scope.layout.document(result.key).exists():
        yield scope.finding(Kind.DOCUMENT_MISSING, path, "there is no key document")


@named_after(record_digest)
def check_document(scope: Scope, path: Path, key: str) -> Iterator[Finding]:
    """A key document: whole, and its pre-image hashes to the key that it is named after."""
    try:
        kept = decode_document(scope.read(path))
    except DamagedRecordError as damage:
        yield scope.finding(Kind.DOCUMENT_DAMAGED, path, str(damage))
        return
    if tagged_digest(ACTION_TAG, kept.get("document")) != key:
        yield scope.finding(Kind.DOCUMENT_DAMAGED, path, "it does not hash to its key")


@named_after(view_digest)
def check_view(scope: Scope, path: Path, digest: str) -> Iterator[Finding]:
    """A view: the files of its tree and no others, each the blob itself or as good as it."""
    try:
        entries = tree_of(scope, digest)
    except DamagedRecordError as damage:
        yield scope.finding(Kind.VIEW_DIFFERS, path, str(damage))
        return
    for wrong in differing(scope, path, entries):
        yield scope.finding(Kind.VIEW_DIFFERS, wrong, "not what the tree has under this name")
    for entry in entries:
        if not (path / entry.path).exists():
            yield scope.finding(Kind.VIEW_DIFFERS, path, f"`{entry.path}` is not there")


def differing(scope: Scope, folder: Path, entries: Sequence[TreeEntry]) -> Iterator[Path]:
    """Files of a view that do not belong there; those that are no blob themselves are read.

    Raises:
        OSError: one cannot be read.
    """
    wanted = {entry.path: entry for entry in entries}
    for found in list(walk_files(folder)):
        path = Path(found.path)
        entry = wanted.get(str(path.relative_to(folder)))
        if entry is None or found.is_symlink() or path.stat().st_size != entry.size:
            yield path
            continue
        blob = scope.layout.blob(entry.digest)
        if not (blob.exists() and path.samefile(blob)) and not scope.whole(path, entry.digest):
            yield path


def check_needed(scope: Scope) -> Iterator[Finding]:
    """What no result needs: of interest to who is short of space."""
    for folder, digest_of in (("objects", blob_digest), ("trees", record_digest)):
        count = size = 0
        for path in fanned(scope.layout.root / folder):
            digest = digest_of(path)
            if digest is not None and digest not in scope.needed:
                with suppress(FileNotFoundError):  # gc is at work
                    count, size = count + 1, size + path.lstat().st_size
        if count:
            files = f"{count} file{'s' if count > 1 else ''}"
            yield Finding(Kind.UNREFERENCED, folder, f"{files}, {size} bytes, that no result needs")
