"""Which rows a step sees, and how rows become tensors.

The order is a function of (seed, epoch) alone, so that a step's rows do not depend on the number of
ranks, and a resumed run finds its place from the step number.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from enum import IntEnum
from functools import lru_cache

import numpy as np
import torch


class Purpose(IntEnum):
    """What a generator is for; no two purposes share a stream."""

    ORDER = 1
    TRAINING_DRAW = 2
    EVALUATION_DRAW = 3
    MINIBATCHES = 4
    NEW_RANK = 5


def generator(seed: int, number: int, purpose: Purpose, part: int = 0) -> np.random.Generator:
    """A counter-based generator of its own for each (seed, number, purpose, part).

    Purpose and part stand in the counter's high words: in the low ones neighbours would be the same
    stream, shifted by a few draws.
    """
    return np.random.Generator(np.random.Philox(key=[seed, number], counter=[0, 0, part, purpose]))


class RowOrder:
    """An endless shuffle of ``rows`` rows: each epoch is a permutation of its own."""

    def __init__(self, rows: int, seed: int) -> None:
        self._rows = rows
        self._epoch = lru_cache(maxsize=2)(
            lambda epoch: generator(seed, epoch, Purpose.ORDER).permutation(rows)
        )

    def batch(self, step: int, size: int) -> list[int]:
        """Rows of the step-th batch (from 0); a batch may span two epochs, so no row is dropped between."""
        places = range(step * size, (step + 1) * size)
        return [int(self._epoch(place // self._rows)[place % self._rows]) for place in places]


def count_steps(rows: int, epochs: int, size: int, limit: int | None) -> int:
    """Batches of ``size`` in ``epochs`` passes over ``rows`` rows, at most ``limit``.

    Only rows at the very end, too few for a batch, are left out. At least 1.
    """
    steps = max(1, rows * epochs // size)
    return min(steps, limit) if limit is not None else steps


@dataclass(frozen=True)
class Padded:
    """Rows padded on the right to the longest: (B, L) ids, (B, L) bool attention mask, (B,) lengths."""

    ids: torch.Tensor
    mask: torch.Tensor
    lengths: torch.Tensor


def pad_right(rows: Sequence[np.ndarray], filler: int, device: torch.device) -> Padded:
    """Put rows into one tensor, left-aligned."""
    lengths = [len(row) for row in rows]
    ids = np.full((len(rows), max(lengths)), filler, dtype=np.int64)
    for place, row in enumerate(rows):
        ids[place, : len(row)] = row
    counted = torch.tensor(lengths, device=device)
    mask = torch.arange(ids.shape[1], device=device)[None, :] < counted[:, None]
    return Padded(torch.from_numpy(ids).to(device), mask, counted)


@dataclass(frozen=True)
class PaddedPairs:
    """Right-padded tensors of B rows; T is the longest response, L the longest prompt with its response."""

    ids: torch.Tensor
    mask: torch.Tensor
    starts: torch.Tensor
    responses: torch.Tensor
    response_mask: torch.Tensor

    @property
    def ends(self) -> torch.Tensor:
        """(B,) position of each row's last token."""
        return self.mask.sum(dim=1) - 1


def pad_pairs(
    prompts: Sequence[np.ndarray], responses: Sequence[np.ndarray], filler: int, device: torch.device
) -> PaddedPairs:
    """Join each prompt with its response and pad."""
    whole = pad_right([np.concatenate(pair) for pair in zip(prompts, responses, strict=True)], filler, device)
    ends = pad_right(responses, filler, device)
    starts = torch.tensor([len(prompt) for prompt in prompts], device=device)
    return PaddedPairs(whole.ids, whole.mask, starts, ends.ids, ends.mask)


def pad_left(rows: Sequence[np.ndarray], filler: int, device: torch.device) -> Padded:
    """Put rows into one tensor, right-aligned: every row ends where generation starts."""
    lengths = [len(row) for row in rows]
    width = max(lengths)
    ids = np.full((len(rows), width), filler, dtype=np.int64)
    for place, row in enumerate(rows):
        ids[place, width - len(row) :] = row
    counted = torch.tensor(lengths, device=device)
    mask = torch.arange(width, device=device)[None, :] >= width - counted[:, None]
    return Padded(torch.from_numpy(ids).to(device), mask, counted)


def by_length(rows: Sequence[int], lengths: np.ndarray, size: int) -> list[list[int]]:
    """Cut ``rows`` into micro-batches of ``size``, like lengths together, to compute little padding."""
    ordered = sorted(rows, key=lambda row: (int(lengths[row]), row))
    return [ordered[start : start + size] for start in range(0, len(ordered), size)]
