"""Tokenised rows on disk: one flat array of ids, one of offsets, memory-mapped.

A row has a fixed number of named segments (prompt, response, earlier; prompt, chosen, rejected).
Nothing is padded or joined, so a file is as large as its tokens, and opening one reads no token.
``earlier`` holds no tokens: it says where in the prompt earlier answers are, as pairs of positions, the
second of each one past the end.

Layout of a port's folder: ``meta.json``, ``<split>.tokens.npy`` (uint32, all ids in order),
``<split>.offsets.npy`` (int64, rows × segments + 1 boundaries), ``tokenizer/``.
"""

from __future__ import annotations

import json
from array import array
from collections.abc import Sequence
from itertools import pairwise
from pathlib import Path
from typing import Any

import numpy as np
from blake3 import blake3

from .job import write_json

FORMAT = 2
SPANS = "earlier"
SEGMENTS = {
    "demonstrations": ("prompt", "response", SPANS),
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
        counts = np.diff(self._offsets).reshape(-1, len(self.segments))
        return counts[:, [name != SPANS for name in self.segments]].sum(axis=1)


class TokenWriter:
    """Writes the rows of one split as they come; a context manager, whose files are whole when it ends.

    Held in memory are the boundaries, 8 bytes a segment, and never the tokens.
    """

    def __init__(self, folder: Path, split: str) -> None:
        self._boundaries = folder / f"{split}.offsets.npy"
        self._stream = (folder / f"{split}.tokens.npy").open("wb")
        self._bounds = array("q", [0])
        self._write_header()
        self.rows = 0

    def __enter__(self) -> TokenWriter:
        return self

    def __exit__(self, kind: type[BaseException] | None, *_: object) -> None:
        with self._stream:
            if kind is None:
                self._stream.seek(0)
                self._write_header()
                np.save(self._boundaries, np.array(self._bounds, dtype=np.int64))

    def add(self, row: Sequence[np.ndarray]) -> None:
        """Append one row."""
        for segment in row:
            self._stream.write(np.asarray(segment, dtype="<u4").tobytes())
            self._bounds.append(self._bounds[-1] + len(segment))
        self.rows += 1

    def lengths(self, segments: int) -> np.ndarray:
        """Length of each segment of each row so far: int64, (rows, segments)."""
        return np.diff(np.array(self._bounds, dtype=np.int64)).reshape(-1, segments)

    def _write_header(self) -> None:
        # numpy leaves room in it for as many rows as there can be, so that it can be written anew.
        header = {"descr": "<u4", "fortran_order": False, "shape": (self._bounds[-1],)}
        np.lib.format.write_array_header_1_0(self._stream, header)


def write_meta(folder: Path, kind: str, rows: dict[str, int], **facts: Any) -> None:
    """Write ``meta.json``: what the rows are, how many each split has, and ``facts`` about them."""
    write_json(
        folder / "meta.json",
        {"format": FORMAT, "type": kind, "segments": SEGMENTS[kind], "rows": rows, **facts},
    )
