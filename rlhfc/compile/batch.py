"""Batch arithmetic: ``whole == micro * accumulation * ranks``, exactly or not at all."""

from __future__ import annotations

from rlhfc.compile.action import Batch
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
