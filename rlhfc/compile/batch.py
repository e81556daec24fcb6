"""Batch arithmetic: ``whole == micro * accumulation * ranks``, exactly or not at all."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import replace
from typing import Any

from rlhfc.compile.action import Action, Batch
from rlhfc.errors import Diagnostic, UserError
from rlhfc.kind import StageParams

LARGEST_DEFAULT_MICRO = 8


class BatchError(UserError):
    """Batch words that do not divide. ``field`` is the one to point at."""

    def __init__(self, field: str, message: str, hint: str) -> None:
        """Take the field, what is wrong and what would work."""
        super().__init__(Diagnostic(message, hint=hint))
        self.field = field


def batch_of(params: StageParams) -> Batch | None:
    """The batch of a training stage; None for a stage without a global batch.

    Raises:
        BatchError: the numbers do not divide.
    """
    field = batch_field(params)
    if field is None:
        return None
    if field == "minibatch_size":
        _divide("rollout_batch_size", _number(params, "rollout_batch_size"), params.ranks)
    return divide(field, _number(params, field), params.ranks, getattr(params, "micro_batch_size", None))


def batch_field(params: StageParams) -> str | None:
    """The field that says how many rows an optimiser step sees, over all ranks."""
    if hasattr(params, "global_batch_size"):
        return "global_batch_size"
    if hasattr(params, "rollout_batch_size"):
        return "minibatch_size" if getattr(params, "minibatch_size", None) else "rollout_batch_size"
    return None


def _number(params: StageParams, field: str) -> int:
    value: int = getattr(params, field)
    return value


def divide(field: str, whole: int, ranks: int, micro: int | None) -> Batch:
    """Divide a batch over ranks and micro-batches.

    Args:
        field: name of the batch in the spec, for messages.
        whole: rows of an optimiser step over all ranks.
        ranks: data-parallel processes.
        micro: rows of a forward on one rank; None takes the largest divisor up to 8.

    Raises:
        BatchError: a division leaves a remainder.
    """
    share = _divide(field, whole, ranks)
    if micro is None:
        micro = max(_divisors(share, LARGEST_DEFAULT_MICRO))
    if share % micro:
        over = f"`{field}` {whole} over `ranks` {ranks}"
        message = f"{over} gives {share} a rank, no multiple of `micro_batch_size` {micro}"
        raise BatchError(
            "micro_batch_size",
            message,
            f"set `micro_batch_size` to {_around(_divisors(share, share), micro)}",
        )
    return Batch(whole, micro, share // micro, ranks)


def smaller(action: Action) -> Action | None:
    """The same stage with at most half as many rows at once, and the same global batch.

    ``micro_batch_size`` becomes a divisor of a rank's share; so does ``generation_batch_size``, of a kind
    that has one. Half the rows of a forward take about half the memory of its activations.

    Returns:
        None when every forward has one row already, or when the sizes are in the key (``numerics: strict``).
    """
    if "numeric" in action.keyed_impacts:
        return None
    changes = dict(_halved(action))
    if not changes:
        return None
    batch, micro = action.batch, changes.get("micro_batch_size")
    if batch is not None and micro is not None:
        share = batch.whole // batch.ranks
        batch = replace(batch, micro=micro, accumulation=share // micro)
    return replace(action, params=action.params.model_copy(update=changes), batch=batch)


def with_sizes(action: Action, sizes: Mapping[str, int]) -> Action:
    """The same stage halved until no size is above what ``sizes`` says, as far as that goes."""
    while any(_size(action, name) > size for name, size in sizes.items()):
        less = smaller(action)
        if less is None:
            break
        action = less
    return action


def _halved(action: Action) -> Iterator[tuple[str, int]]:
    params, batch = action.params, action.batch
    micro = _size(action, "micro_batch_size")
    if micro > 1:
        share = batch.whole // batch.ranks if batch is not None else None
        fitting = _divisors(share, micro // 2) if share is not None else [micro // 2]
        yield "micro_batch_size", fitting[-1]
    if hasattr(params, "generation_batch_size") and (drawn := _size(action, "generation_batch_size")) > 1:
        yield "generation_batch_size", drawn // 2


def _size(action: Action, name: str) -> int:
    """Rows at once, whether the spec says so or a default does; 0 where the kind has no such size."""
    params: Any = action.params
    if name == "micro_batch_size" and action.batch is not None:
        return action.batch.micro
    if name == "generation_batch_size" and hasattr(params, name):
        return int(getattr(params, name) or params.rollout_batch_size // params.ranks)
    return int(getattr(params, name, None) or 0)


def _divide(field: str, whole: int, ranks: int) -> int:
    if whole % ranks == 0:
        return whole // ranks
    lower = whole - whole % ranks
    sizes = f"{lower} or {lower + ranks}" if lower else str(ranks)
    fitting = _around(_divisors(whole, whole), ranks)
    raise BatchError(
        field,
        f"`{field}` {whole} does not divide over `ranks` {ranks}",
        f"set `{field}` to {sizes}, or `ranks` to {fitting}",
    )


def _divisors(number: int, largest: int) -> list[int]:
    return [divisor for divisor in range(1, min(number, largest) + 1) if number % divisor == 0]


def _around(allowed: list[int], value: int) -> str:
    """The nearest allowed values below and above."""
    below = [number for number in allowed if number < value][-1:]
    above = [number for number in allowed if number > value][:1]
    return " or ".join(map(str, below + above))
