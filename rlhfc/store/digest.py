"""Digests: one canonical encoding, every pre-image tagged by its record type.

A digest is written ``b3:<64 hex digits>``.
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from blake3 import blake3

DIGEST = re.compile(r"^b3:[0-9a-f]{64}\Z")
TREE_TAG = b"rlhfc-tree\0v1\0"
MAP_FROM = 16 * 1024 * 1024  # mapping a file costs more than reading it below this many bytes


@dataclass(frozen=True, order=True)
class TreeEntry:
    """One file of a tree: path with ``/`` between its parts, size in bytes, blob digest."""

    path: str
    size: int
    digest: str


def canonical_json(value: Any) -> bytes:
    """Encode a value as it is always hashed: sorted keys, no white space, UTF-8, no NaN.

    Text is taken as it is, code point by code point: what two normal forms of one word are to people,
    they are not to a tokenizer or a file system. A float is written in the shortest way that reads
    back the same, and keeps its point: ``1.0`` is not ``1``, and ``-0.0`` not ``0.0``.

    Raises:
        ValueError: ``value`` holds NaN, an infinity, or text that is not Unicode.
        TypeError: a name in a mapping is no text, so that two names could be written the same.
    """
    _check_names(value)
    text = json.dumps(value, sort_keys=True, separators=(",", ":"), ensure_ascii=False, allow_nan=False)
    return text.encode()


def _check_names(value: Any) -> None:
    if isinstance(value, dict):
        for name, item in value.items():
            if not isinstance(name, str):
                raise TypeError(f"{name!r} is no text, and so no name")
            _check_names(item)
    elif isinstance(value, list | tuple):
        for item in value:
            _check_names(item)


def tagged_digest(tag: bytes, value: Any) -> str:
    """Hash a value under the tag of its record type."""
    return f"b3:{blake3(tag + canonical_json(value)).hexdigest()}"


def bytes_digest(data: bytes) -> str:
    """Hash bytes as a blob."""
    return f"b3:{blake3(data).hexdigest()}"


def file_digest(path: Path) -> str:
    """Hash a file's bytes.

    Raises:
        OSError: the file cannot be read.
    """
    hasher = blake3(max_threads=blake3.AUTO)
    if path.stat().st_size >= MAP_FROM:
        hasher.update_mmap(path)
    else:
        hasher.update(path.read_bytes())
    return f"b3:{hasher.hexdigest()}"


def tree_digest(entries: Iterable[TreeEntry]) -> str:
    """Hash a folder: which files it holds, under which names, with which bytes."""
    return tagged_digest(TREE_TAG, tree_rows(entries))


def tree_rows(entries: Iterable[TreeEntry]) -> list[list[str | int]]:
    """Put entries into the rows that are stored and hashed, sorted by path."""
    return [[entry.path, entry.size, entry.digest] for entry in sorted(entries)]
