"""Rows of a token file as JSON on stdout, for ``rlhfc data show``: ids, their texts, and what is learnt."""

from __future__ import annotations

import argparse
import json
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from tokenizers import Tokenizer

from .tokenfiles import SPANS, TokenFile

PART = "\ufffd"  # what a tokenizer makes of a character of which bytes are missing


def pieces(tokenizer: Tokenizer, ids: Sequence[int]) -> Iterator[str]:
    """Text that each id adds; a character of several ids comes with its last."""
    said = ""
    for end in range(1, len(ids) + 1):
        text = tokenizer.decode(list(ids[:end]), skip_special_tokens=False)
        if text.endswith(PART) and end < len(ids):
            yield ""
            continue
        yield text.removeprefix(said)
        said = text


def marked(name: str, ids: np.ndarray, earlier: np.ndarray) -> list[str]:
    """What each token of a segment is: ``answer``, ``earlier`` (an earlier answer) or ``prompt``."""
    if name != "prompt":
        return ["answer"] * len(ids)
    found = ["prompt"] * len(ids)
    for start, end in earlier.reshape(-1, 2).tolist():
        found[start:end] = ["earlier"] * (end - start)
    return found


def shown(rows: TokenFile, row: int, tokenizer: Tokenizer) -> dict[str, Any]:
    """A row's segments, each with id, text and mark of its tokens."""
    segments = dict(zip(rows.segments, rows[row], strict=True))
    earlier = segments.pop(SPANS, np.empty(0, dtype=np.uint32))
    prompt = segments["prompt"].tolist()
    found = {}
    for name, ids in segments.items():
        # An answer is read as what follows the prompt: alone, its first space may be lost.
        before = [] if name == "prompt" else prompt
        texts = list(pieces(tokenizer, [*before, *ids.tolist()]))[len(before) :]
        found[name] = [
            list(token) for token in zip(ids.tolist(), texts, marked(name, ids, earlier), strict=True)
        ]
    return {"row": row, "segments": found}


def main() -> None:
    """Print one JSON document."""
    parser = argparse.ArgumentParser()
    parser.add_argument("folder", type=Path)
    parser.add_argument("split")
    parser.add_argument("first", type=int)
    parser.add_argument("count", type=int)
    arguments = parser.parse_args()
    rows = TokenFile(arguments.folder, arguments.split)
    tokenizer = Tokenizer.from_file(str(arguments.folder / "tokenizer" / "tokenizer.json"))
    chosen = range(arguments.first, min(arguments.first + arguments.count, len(rows)))
    print(json.dumps({"rows": len(rows), "shown": [shown(rows, row, tokenizer) for row in chosen]}))


if __name__ == "__main__":
    main()
