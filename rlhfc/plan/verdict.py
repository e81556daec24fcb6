"""What a plan says of one stage, and what it asks of a store to say it."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from enum import StrEnum
from typing import Any, Protocol

from rlhfc.compile.keys import KeyDocument, Undecided
from rlhfc.compile.reasons import Reason
from rlhfc.plan.compare import Difference
from rlhfc.store.records import Acceptance, ActionResult


class StoreReader(Protocol):
    """What a plan asks of a store; nothing is written."""

    def lookup(self, key: str) -> ActionResult | None:
        """Result of an action, when all of it is there."""

    def key_document(self, key: str) -> Mapping[str, Any] | None:
        """What was kept beside a key: ``document`` and ``recorded``."""

    def last_key(self, pipeline: str, stage: str) -> str | None:
        """Key of the stage's last result in this pipeline."""

    def earlier_keys(self, pipeline: str, stage: str) -> Sequence[str]:
        """Keys of the stage's results in this pipeline before the last one, newest first."""

    def keys_from(self, start: str) -> list[str]:
        """Keys of results that begin so."""

    def checkpoint(self, stage: str, key: str) -> tuple[int, int] | None:
        """Step of the newest complete checkpoint, and the last step."""


class Verdict(StrEnum):
    """What a run would do with a stage."""

    CACHED = "cached"
    RESTORE = "restore"
    RESUME = "resume"
    RUN = "run"
    UNDECIDED = "undecided"
    FROZEN = "frozen"
    SKIPPED = "skipped"


@dataclass(frozen=True)
class StagePlan:
    """The verdict on one stage.

    Attributes:
        key: key of the result that is used or would be made; None while a part of it is missing.
        reasons: why it is not cached; for a frozen stage, although what its result stands.
        result: what the store holds, for a cached or frozen stage; the shared store, for one to restore.
        checkpoint: step to resume from and last step, for a stage that resumes.
        differences: values that differ from the last result's without invalidating it.
        line: where the stage starts in the spec.
        ignored: changes that ``ignore_changes`` or the policy for libraries has ignored.
        pinned: whether a frozen stage's result is the one that the spec names.
        accepted: who lets the result stand under its key, when it was not made under it.
        known: the key document as far as it is known.
    """

    stage: str
    kind: str
    verdict: Verdict
    key: str | None
    reasons: tuple[Reason, ...] = ()
    result: ActionResult | None = None
    checkpoint: tuple[int, int] | None = None
    differences: tuple[Difference, ...] = ()
    line: int = 1
    ignored: tuple[Reason, ...] = ()
    pinned: bool = False
    accepted: Acceptance | None = None
    known: KeyDocument | Undecided | None = field(default=None, compare=False, repr=False)
