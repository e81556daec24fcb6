"""Whether an attempt that failed is launched again, when, and with what: a pure policy.

=================  ==================================================================================
fault              what follows
=================  ==================================================================================
machine,           the same again after a pause that doubles, from the newest checkpoint; at most
no_progress        ``retries`` times in a run
out_of_memory      at once with half the micro-batch and the same global batch, down to one row
the others         nothing: it would end the same way
=================  ==================================================================================

A stage that has failed three times in a row by the machine without a new checkpoint is not launched
again, in no run, until ``--force`` says so: what keeps it from its next checkpoint will not go away by
itself. Attempts whose run died say nothing about the stage, and do not count.
"""

from __future__ import annotations

import random
from collections.abc import Sequence
from dataclasses import dataclass

from rlhfc.compile.action import Action
from rlhfc.compile.batch import smaller
from rlhfc.kind import StageParams
from rlhfc.run.attempt import Status
from rlhfc.run.fault import Fault
from rlhfc.run.outcome import Failure
from rlhfc.run.summary import adjusted_words

IN_VAIN = 3  # failures in a row without a new checkpoint
LONGEST_PAUSE = 600.0  # seconds
OF_THE_MACHINE = frozenset({Fault.MACHINE, Fault.NO_PROGRESS})
ROW_GOES_ON = OF_THE_MACHINE | {Fault.MEMORY}
SPARING = "`zero_stage: 3`, `offload`, `gradient_checkpointing: true` and `lora` save memory"


@dataclass(frozen=True)
class Again:
    """A further launch.

    Attributes:
        pause: seconds to wait before it.
        action: what is launched.
        words: what changes, for people; empty where it is the same.
    """

    pause: float
    action: Action
    words: str = ""


def next_launch(
    fault: Fault, action: Action, retried: int, chance: random.Random | None = None
) -> Again | None:
    """Tell what to launch after a failure; None when launching it again cannot help.

    Args:
        fault: why it failed.
        action: what was launched.
        retried: launches after faults of the machine in this run, before this failure.
        chance: spreads the pauses of many runs; None takes the machine's.
    """
    if fault is Fault.MEMORY:
        less = smaller(action)
        return Again(0.0, less, adjusted_words(adjusted(action, less))) if less is not None else None
    if fault in OF_THE_MACHINE and retried < action.params.retries:
        return Again(pause(action.params, retried, chance or random.SystemRandom()), action)
    return None


def pause(params: StageParams, retried: int, chance: random.Random) -> float:
    """Seconds before the next launch: doubled with each, and spread by half of it to either side."""
    return min(params.retry_delay * 2.0**retried, LONGEST_PAUSE) * chance.uniform(0.5, 1.5)


def in_vain(statuses: Sequence[Status]) -> int:
    """Count the newest failures in a row that the machine caused and that left no new checkpoint.

    Args:
        statuses: of the attempts that one result takes, oldest first.
    """
    count = 0
    for status in reversed(statuses):
        if status.progressed or (status.state == "failed" and status.fault not in ROW_GOES_ON):
            break
        count += status.state == "failed" and status.fault in OF_THE_MACHINE
    return count


def refusal(stage: str, statuses: Sequence[Status]) -> Failure | None:
    """Refuse a launch that will fail as those before it did; None where there is hope."""
    if in_vain(statuses) < IN_VAIN:
        return None
    last = next(status for status in reversed(statuses) if status.fault in OF_THE_MACHINE)
    step = last.checkpoint_before
    where = f"at step {step}" if step else "before its first checkpoint"
    return Failure(
        f"failed {IN_VAIN} times in a row {where}, the last time: {last.reason}",
        f"see to the machine, or save more often (`checkpoint_every`); `--force {stage}` tries again",
    )


def memory_hint(action: Action) -> str:
    """What the user can do about a stage that does not fit."""
    if action.params.numerics == "strict" and smaller_in_principle(action):
        return f"with `numerics: strict` the micro-batch is yours to lower: `micro_batch_size`; {SPARING}"
    return SPARING


def smaller_in_principle(action: Action) -> bool:
    """Whether a smaller micro-batch is possible, were it not part of the key."""
    batch, size = action.batch, getattr(action.params, "micro_batch_size", None)
    return (batch.micro if batch is not None else size or 1) > 1


def adjusted(before: Action, after: Action) -> dict[str, int]:
    """Leaves that a launch has otherwise than the spec, with what it has."""
    names = ("micro_batch_size", "generation_batch_size")
    values = ((name, getattr(after.params, name, None)) for name in names)
    return {
        name: value
        for name, value in values
        if isinstance(value, int) and value != getattr(before.params, name, None)
    }
