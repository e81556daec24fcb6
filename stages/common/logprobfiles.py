"""Log-probabilities of preferences on disk, by row, and the proof of which preferences they are of.

Layout of the port's folder: ``meta.json``, and for each split ``<split>.npy``: (rows, 2) float32, the
summed log-probability of the chosen and of the rejected response, in nats.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path

import numpy as np

from .job import StageError, write_json
from .tokenfiles import TokenFile

FORMAT = 1


def write_log_probs(folder: Path, found: Mapping[str, np.ndarray], rows: Mapping[str, TokenFile]) -> None:
    """Write the log-probabilities of each split of the preferences ``rows``."""
    for split, values in found.items():
        np.save(folder / f"{split}.npy", values.astype(np.float32))
    digests = {split: rows[split].digest() for split in found}
    write_json(folder / "meta.json", {"format": FORMAT, "type": "log_probs", "rows": digests})


def read_log_probs(folder: Path, split: str, rows: TokenFile) -> np.ndarray:
    """(rows, 2) float32 of one split.

    Raises:
        StageError: they are of other rows.
        ValueError: the folder was written in another format.
    """
    meta = json.loads((folder / "meta.json").read_text(encoding="utf-8"))
    if meta["format"] != FORMAT:
        raise ValueError(f"{folder}: format {meta['format']}, this version reads {FORMAT}")
    if meta["rows"].get(split) != rows.digest():
        raise StageError(
            f"the log-probabilities in `reference` are not those of the {split} rows in `data`",
            "give the `reference` stage the same `data`",
        )
    found: np.ndarray = np.load(folder / f"{split}.npy")
    return found
