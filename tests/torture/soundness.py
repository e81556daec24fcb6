"""Whether a store is what it says: read from its files, byte for byte, and not through the store's code."""

from __future__ import annotations

import json
import zlib
from collections.abc import Iterable, Iterator
from contextlib import suppress
from pathlib import Path

from rlhfc.store.digest import TreeEntry, canonical_json, file_digest, tagged_digest, tree_digest
from rlhfc.store.records import ACTION_TAG


def unsound(store: Path) -> list[str]:
    """What is wrong with the store; empty for a sound one, or for none."""
    return [*_blobs(store), *_trees(store), *_actions(store), *_ledger(store)]


def _digest(path: Path) -> str:
    return f"b3:{path.parent.name}{path.name.removesuffix('.json')}"


def _place(store: Path, folder: str, digest: str, suffix: str = "") -> Path:
    digits = digest.removeprefix("b3:")
    return store / folder / digits[:2] / f"{digits[2:]}{suffix}"


def _blobs(store: Path) -> Iterator[str]:
    for path in (store / "objects").glob("*/*"):
        if file_digest(path) != _digest(path):
            yield f"the blob {path} holds other bytes"


def _trees(store: Path) -> Iterator[str]:
    for path in (store / "trees").glob("*/[!.]*"):
        try:
            rows = json.loads(path.read_bytes())
        except ValueError:
            yield f"the tree {path} is no JSON"
            continue
        if tree_digest(TreeEntry(*row) for row in rows) != _digest(path):
            yield f"the tree {path} is another"


def _actions(store: Path) -> Iterator[str]:
    for path in (store / "actions").glob("*/[!.]*"):
        try:
            document = json.loads(path.read_bytes())
        except ValueError:
            yield f"the record {path} is no JSON"
            continue
        result = document["result"]
        if document["check"] != tagged_digest(ACTION_TAG, result) or result["key"] != _digest(path):
            yield f"the record {path} is not what was written"
        yield from _missing(store, path, result["outputs"].values(), result["metrics"])
        if not _place(store, "keydocs", result["key"], ".json").exists():
            yield f"the record {path} has no key document"


def _missing(store: Path, record: Path, trees: Iterable[str], metrics: str | None) -> Iterator[str]:
    blobs = [metrics] if metrics else []
    for tree in trees:
        path = _place(store, "trees", tree, ".json")
        if not path.exists():
            yield f"the record {record} needs the tree {tree}"
            continue
        with suppress(ValueError):  # told by `_trees`
            blobs += [row[2] for row in json.loads(path.read_bytes())]
    yield from (
        f"the record {record} needs the blob {blob}"
        for blob in blobs
        if not _place(store, "objects", blob).exists()
    )


def _ledger(store: Path) -> Iterator[str]:
    path = store / "ledger.jsonl"
    for number, line in enumerate(path.read_bytes().split(b"\n") if path.exists() else [], start=1):
        if not line:
            continue
        try:
            written = json.loads(line)
            whole = written["crc"] == f"{zlib.crc32(canonical_json(written['entry'])):08x}"
        except (ValueError, KeyError, TypeError):
            whole = False
        if not whole:
            yield f"{path}:{number} is damaged"
