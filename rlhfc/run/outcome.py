"""What a run comes to, stage by stage: values only."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from enum import StrEnum
from pathlib import Path

from rlhfc.store.records import ActionResult

EXIT_INTERRUPTED = 130


class State(StrEnum):
    """Where a stage stands. The order is that of a stage's life."""

    WAITING = "waiting"
    QUEUED = "queued"
    RUNNING = "running"
    CACHED = "cached"
    FROZEN = "frozen"
    RESTORED = "restored"
    DONE = "done"
    INTERRUPTED = "interrupted"
    FAILED = "failed"
    BLOCKED = "blocked"


THERE = frozenset({State.CACHED, State.FROZEN})
"""States of a stage whose result was there before the run."""
GOOD = THERE | {State.RESTORED, State.DONE}


@dataclass(frozen=True)
class Failure:
    """Why a stage did not end well.

    Attributes:
        message: one sentence.
        hint: what would mend it, where that is known.
        returncode: exit status; below zero the signal.
        log: what its processes said, or None when none was started.
        tail: last lines of the log; empty for a mistake of the user's, which needs none.
    """

    message: str
    hint: str | None = None
    returncode: int | None = None
    log: Path | None = None
    tail: tuple[str, ...] = ()


@dataclass(frozen=True)
class StageOutcome:
    """How one stage ended.

    Attributes:
        key: action key, or None when it was never known.
        seconds: wall time in this run.
        attempt: number of the attempt in this run, or None.
        checkpoint: step and last step to go on from, when it did not end well.
        blocked_by: upstream stages that did not end well.
        faults: kinds of fault after which it was launched again in this run.
        adjusted: leaves that its last launch had otherwise than the spec.
    """

    stage: str
    kind: str
    state: State
    key: str | None = None
    seconds: float = 0.0
    attempt: int | None = None
    result: ActionResult | None = None
    failure: Failure | None = None
    checkpoint: tuple[int, int] | None = None
    blocked_by: tuple[str, ...] = ()
    faults: tuple[str, ...] = ()
    adjusted: Mapping[str, int] = field(default_factory=dict)


@dataclass(frozen=True)
class RunOutcome:
    """How a run ended.

    Attributes:
        run: its identifier in the ledger.
        interrupted: whether it was asked to stop.
        seconds: wall time.
        reason: why it was asked to stop, where that was no signal.
    """

    run: str
    pipeline: str
    stages: Mapping[str, StageOutcome]
    interrupted: bool
    seconds: float
    reason: str | None = None

    @property
    def nothing_to_do(self) -> bool:
        """Whether every result was there."""
        return all(outcome.state in THERE for outcome in self.stages.values())

    @property
    def exit_status(self) -> int:
        """0 when every stage is done, 130 when interrupted, else 1."""
        states = {outcome.state for outcome in self.stages.values()}
        if states <= GOOD:
            return 0
        if self.interrupted or (State.INTERRUPTED in states and State.FAILED not in states):
            return EXIT_INTERRUPTED
        return 1
