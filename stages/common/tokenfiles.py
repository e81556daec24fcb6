"""Tokenised rows on disk: one flat array of ids, one of offsets, memory-mapped.

A row has a fixed number of named segments (prompt and response; prompt, chosen and rejected).
Nothing is padded or joined, so a file is as large as its tokens, and opening one reads no token.

Layout of a port's folder: ``meta.json``, ``<split>.tokens.npy`` (uint32, all ids in order),
``<split>.offsets.npy`` (int64, rows × segments + 1 boundaries), ``tokenizer/``.
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Sequence
from itertools import pairwise
from pathlib import Path
from typing import Any

import numpy as np
from blake3 import blake3

from .job import write_json

FORMAT = 1
SEGMENTS = {
    "demonstrations": ("prompt", "response"),
    "preferences": ("prompt", "chosen", "rejected"),
    "prompts": ("prompt",),
    "heldout": ("prompt", "response"),
}


class TokenFile(Sequence[tuple[np.ndarray, ...]]):
    """Rows of one split; ``rows[i]`` is a tuple of uint32 arrays, one a segment.

    Raises:
        FileNotFoundError: the folder has no such split.
        ValueError: the folder was written in another format.
    """

    def __init__(self, folder: Path, split: str) -> None:
        self.meta: dict[str, Any] = json.loads((folder / "meta.json").read_text(encoding="utf-8"))
        if self.meta["format"] != FORMAT:
            raise ValueError(f"{folder}: token format {self.meta['format']}, this version reads {FORMAT}")
        self.segments: list[str] = self.meta["segments"]
        self._tokens = np.load(folder / f"{split}.tokens.npy", mmap_mode="r")
        self._offsets = np.load(folder / f"{split}.offsets.npy", mmap_mode="r")

    def __len__(self) -> int:
        return (len(self._offsets) - 1) // len(self.segments)

    def __getitem__(self, row: Any) -> Any:
        if not 0 <= row < len(self):
            raise IndexError(row)  # what ends a loop over the rows
        width = len(self.segments)
        bounds = self._offsets[row * width : (row + 1) * width + 1]
        return tuple(np.asarray(self._tokens[start:end]) for start, end in pairwise(bounds))

    def digest(self) -> str:
        """BLAKE3 of all ids and boundaries: equal for equal rows in equal order."""
        found = blake3(np.ascontiguousarray(self._offsets).view(np.uint8).data)
        return f"b3:{found.update(np.ascontiguousarray(self._tokens).view(np.uint8).data).hexdigest()}"

    def lengths(self) -> np.ndarray:
        """Tokens of each row, all segments together: int64, (rows,)."""
        return np.diff(self._offsets[:: len(self.segments)])


def write_split(folder: Path, split: str, rows: Iterable[Sequence[Sequence[int]]]) -> int:
    """Write the rows of one split and return how many there were."""
    tokens: list[np.ndarray] = []
    lengths: list[int] = []
    count = 0
    for row in rows:
        count += 1
        for segment in row:
            tokens.append(np.asarray(segment, dtype=np.uint32))
            lengths.append(len(segment))
    flat = np.concatenate(tokens) if tokens else np.zeros(0, dtype=np.uint32)
    np.save(folder / f"{split}.tokens.npy", flat)
    np.save(
        folder / f"{split}.offsets.npy",
        np.concatenate([[0], np.cumsum(lengths, dtype=np.int64)]).astype(np.int64),
    )
    return count


def write_meta(folder: Path, kind: str, rows: dict[str, int], **facts: Any) -> None:
    """Write ``meta.json``: what the rows are, how many each split has, and ``facts`` about them."""
    write_json(
        folder / "meta.json",
        {"format": FORMAT, "type": kind, "segments": SEGMENTS[kind], "rows": rows, **facts},
    )
