"""Who goes where: prompts to parts and sides, by seed, each prompt to one place only."""

from __future__ import annotations

import random
from collections.abc import Hashable, Mapping, Sequence
from dataclasses import dataclass
from typing import Literal, TypeVar

T = TypeVar("T")
Side = Literal["train", "eval"]


@dataclass(frozen=True)
class Place:
    """A part (``sft``, ``reward``, ``prompts``) and a side of it."""

    part: str
    side: Side


def shuffled(items: Sequence[T], seed: int, purpose: str) -> list[T]:
    """``items`` in an order that ``seed`` and ``purpose`` decide."""
    order = list(items)
    random.Random(f"rlhfc:{seed}:{purpose}").shuffle(order)
    return order


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


def assign(
    prompts: Sequence[Hashable],
    weights: Mapping[str, int],
    *,
    eval_fraction: float,
    seed: int,
    purpose: str,
    taken: dict[Hashable, Place],
) -> None:
    """Give each prompt that is not in ``taken`` its place, and note it there.

    Prompts seen before keep their place, so that no prompt is trained on in one part and held out,
    or scored, in another, whichever sources it comes from.

    Args:
        prompts: keys of one source's rows, repeats allowed.
        weights: of the parts that these rows can feed; all zero: nothing is given.
        eval_fraction: held-out share of each part, see :func:`held_out`.
        seed: decides the order, with ``purpose``.
        purpose: what is being shuffled, for example ``source 0``.
        taken: place of every prompt so far; extended.
    """
    if not sum(weights.values()):
        return
    fresh = [prompt for prompt in dict.fromkeys(prompts) if prompt not in taken]
    order = iter(shuffled(fresh, seed, purpose))
    for part, count in zip(weights, shares(len(fresh), list(weights.values())), strict=True):
        held = held_out(count, eval_fraction)
        for index in range(count):
            taken[next(order)] = Place(part, "eval" if index < held else "train")
