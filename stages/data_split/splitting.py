"""Who goes where: prompts to parts and sides, by seed, each prompt to one place only.

Prompts are digests of 16 bytes in arrays, so that millions cost tens of bytes each, whatever their text.
"""

from __future__ import annotations

import random
from array import array
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Literal

import numpy as np

Side = Literal["train", "eval"]
NOWHERE = -1


@dataclass(frozen=True)
class Place:
    """A part (``sft``, ``reward``, ``prompts``) and a side of it."""

    part: str
    side: Side


PLACES = [
    Place(part, side) for part in ("sft", "reward", "prompts") for side in ("train", "eval")
]  # a row's place is an index into this


def permutation(count: int, seed: int, purpose: str) -> np.ndarray:
    """0 … count−1 (int64) in an order that ``seed`` and ``purpose`` decide."""
    order = array("q", range(count))
    random.Random(f"rlhfc:{seed}:{purpose}").shuffle(order)
    return np.array(order, dtype=np.int64)


def shares(count: int, weights: Sequence[int]) -> list[int]:
    """``count`` divided by ``weights`` with the largest-remainder method; ties go to the first.

    Raises:
        ZeroDivisionError: the weights add up to nothing.
    """
    total = sum(weights)
    counts = [count * weight // total for weight in weights]
    remainders = [(-(count * weight % total), index) for index, weight in enumerate(weights)]
    for _, index in sorted(remainders)[: count - sum(counts)]:
        counts[index] += 1
    return counts


def held_out(count: int, fraction: float) -> int:
    """How many of ``count`` prompts are held out: the nearest to ``fraction``.

    Of two or more prompts at least one is held out and one is not, unless ``fraction`` is 0 or 1.
    """
    if fraction in (0.0, 1.0):
        return int(count * fraction)
    if count < 2:
        return 0
    return min(max(round(count * fraction), 1), count - 1)


class Placement:
    """The place of every prompt so far: sorted digests, and an index into ``PLACES`` for each."""

    def __init__(self) -> None:
        self._prompts = np.empty(0, dtype="S16")
        self._places = np.empty(0, dtype=np.int8)

    def find(self, prompts: np.ndarray) -> np.ndarray:
        """Place of each prompt (int8), ``NOWHERE`` for one without."""
        found = np.full(len(prompts), NOWHERE, dtype=np.int8)
        if len(self._prompts):
            at = np.searchsorted(self._prompts, prompts).clip(max=len(self._prompts) - 1)
            known = self._prompts[at] == prompts
            found[known] = self._places[at[known]]
        return found

    def assign(
        self,
        prompts: np.ndarray,
        weights: Mapping[str, int],
        *,
        eval_fraction: float,
        seed: int,
        purpose: str,
    ) -> None:
        """Give each prompt that has no place yet one.

        Prompts seen before keep theirs, so that no prompt is trained on in one part and held out, or
        scored, in another, whichever sources it comes from.

        Args:
            prompts: digests of one source's rows (S16), repeats allowed.
            weights: of the parts that these rows can feed; all zero: nothing is given.
            eval_fraction: held-out share of each part, see :func:`held_out`.
            seed: decides the order, with ``purpose``.
            purpose: what is being shuffled, for example ``source 0``.
        """
        if not sum(weights.values()):
            return
        fresh = _in_order(prompts[self.find(prompts) == NOWHERE])
        places = np.empty(len(fresh), dtype=np.int8)
        order, start = permutation(len(fresh), seed, purpose), 0
        for part, count in zip(weights, shares(len(fresh), list(weights.values())), strict=True):
            held = held_out(count, eval_fraction)
            places[order[start : start + held]] = PLACES.index(Place(part, "eval"))
            places[order[start + held : start + count]] = PLACES.index(Place(part, "train"))
            start += count
        together = np.concatenate([self._prompts, fresh])
        sorting = np.argsort(together, kind="stable")
        self._prompts = together[sorting]
        self._places = np.concatenate([self._places, places])[sorting]


def _in_order(values: np.ndarray) -> np.ndarray:
    """Distinct values in the order of their first appearance."""
    return values[np.sort(np.unique(values, return_index=True)[1])]


def repeated(before: np.ndarray, values: np.ndarray) -> np.ndarray:
    """Which of ``values`` (bool) are among ``before`` or stand earlier in ``values``."""
    first = np.zeros(len(values), dtype=bool)
    first[np.unique(values, return_index=True)[1]] = True
    return ~first | np.isin(values, before)


def thinned(rows: np.ndarray, weight: float, seed: int, purpose: str) -> np.ndarray:
    """``rows`` as often as ``weight`` says: whole copies, and a share of one that the seed draws."""
    whole, rest = divmod(weight, 1.0)
    drawn = np.sort(permutation(len(rows), seed, purpose)[: round(rest * len(rows))])
    return np.concatenate([np.tile(rows, int(whole)), rows[drawn]])
