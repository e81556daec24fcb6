"""Decides for each stage whether it is cached, resumes, runs, or cannot be decided yet, and why."""

from __future__ import annotations

from collections.abc import Collection, Mapping
from dataclasses import dataclass, field, replace
from enum import StrEnum
from typing import Any, Protocol

from rlhfc.compile.action import Action, Pipeline
from rlhfc.compile.keys import KeyDocument, Undecided, key_document
from rlhfc.compile.reasons import Reason, ReasonCode
from rlhfc.compile.world import Libraries
from rlhfc.plan.compare import Difference, changes_between, differences_between
from rlhfc.store.records import ActionResult


class StoreReader(Protocol):
    """What a plan asks of a store; nothing is written."""

    def lookup(self, key: str) -> ActionResult | None:
        """Result of an action, when all of it is there."""

    def key_document(self, key: str) -> Mapping[str, Any] | None:
        """What was kept beside a key: ``document`` and ``recorded``."""

    def last_key(self, pipeline: str, stage: str) -> str | None:
        """Key of the stage's last result in this pipeline."""

    def checkpoint(self, stage: str, key: str) -> tuple[int, int] | None:
        """Step of the newest complete checkpoint, and the last step."""


class Verdict(StrEnum):
    """What a run would do with a stage."""

    CACHED = "cached"
    RESUME = "resume"
    RUN = "run"
    UNDECIDED = "undecided"
    SKIPPED = "skipped"


@dataclass(frozen=True)
class StagePlan:
    """The verdict on one stage.

    Attributes:
        key: action key, or None while a part of it is missing.
        reasons: why it is not cached; for a stage that is, none.
        result: what the store holds, for a cached stage.
        checkpoint: step to resume from and last step, for a stage that resumes.
        differences: values that differ from the last result's without invalidating it.
        line: where the stage starts in the spec.
        document: what the key is made of; parts that are missing are left out.
        recorded: numeric and runtime values beside it.
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
    document: Mapping[str, Any] = field(default_factory=dict, repr=False)
    recorded: Mapping[str, Any] = field(default_factory=dict, repr=False)


@dataclass(frozen=True)
class Plan:
    """Verdicts in topological order."""

    pipeline: Pipeline
    stages: Mapping[str, StagePlan]

    def count(self, verdict: Verdict) -> int:
        """How many stages have a verdict."""
        return sum(stage.verdict is verdict for stage in self.stages.values())

    @property
    def nothing_to_do(self) -> bool:
        """Whether a run would launch nothing."""
        return self.count(Verdict.CACHED) + self.count(Verdict.SKIPPED) == len(self.stages)


def make_plan(
    pipeline: Pipeline, store: StoreReader, libraries: Libraries, forced: Collection[str] = ()
) -> Plan:
    """Decide every stage from values alone; nothing is launched or written.

    Args:
        pipeline: the compiled spec.
        store: results, key documents and checkpoints there are.
        libraries: version of an installed distribution.
        forced: stages that run whatever the store holds.

    Raises:
        UserError: a launch template fails.
    """
    outputs: dict[tuple[str, str], str] = {}
    stages: dict[str, StagePlan] = {}
    for name, action in pipeline.actions.items():
        known = key_document(action, outputs, libraries)
        planned = _decide(action, known, store, name in forced)
        stages[name] = planned
        if planned.result is not None:
            outputs.update({(name, port): tree for port, tree in planned.result.outputs.items()})
    return Plan(pipeline, stages)


@dataclass(frozen=True)
class _Past:
    """The stage's last result in this pipeline, as far as the store remembers it."""

    key: str | None
    kept: Mapping[str, Any] | None

    def differences(self, recorded: Mapping[str, Any]) -> tuple[Difference, ...]:
        return differences_between((self.kept or {}).get("recorded", {}), recorded)

    def causes(self, document: Mapping[str, Any], missing: tuple[Reason, ...]) -> tuple[Reason, ...]:
        """Why a stage has no result under its key; empty when only a missing part could tell."""
        if self.key is None:
            return (Reason(ReasonCode.NEVER_RUN),)
        if self.kept is None or "document" not in self.kept:
            return (Reason(ReasonCode.RECORD_MISSING),)
        changes = changes_between(self.kept["document"], document, frozenset(part.path for part in missing))
        if not changes and not missing:
            # The last result had this very key, and the store no longer has all of it.
            return (Reason(ReasonCode.RESULT_MISSING),)
        return tuple(changes)


def _decide(action: Action, known: KeyDocument | Undecided, store: StoreReader, forced: bool) -> StagePlan:
    last = store.last_key(action.pipeline, action.stage)
    past = _Past(last, store.key_document(last) if last is not None else None)
    base = StagePlan(
        stage=action.stage,
        kind=action.kind.name,
        verdict=Verdict.RUN,
        key=known.key if isinstance(known, KeyDocument) else None,
        differences=past.differences(known.recorded),
        line=action.line,
        document=known.document if isinstance(known, KeyDocument) else known.partial,
        recorded=known.recorded,
    )
    if forced:
        missing = known.reasons if isinstance(known, Undecided) else ()
        return replace(base, reasons=(Reason(ReasonCode.FORCED), *missing))
    if isinstance(known, Undecided):
        return _without_key(base, known, past)
    result = store.lookup(known.key)
    if result is not None:
        made = past if last == known.key else _Past(known.key, store.key_document(known.key))
        differences = made.differences(known.recorded)
        return replace(base, verdict=Verdict.CACHED, result=result, differences=differences)
    planned = replace(base, reasons=past.causes(known.document, ()))
    checkpoint = store.checkpoint(action.stage, known.key) if action.kind.resumable else None
    if checkpoint is None:
        return planned
    return replace(planned, verdict=Verdict.RESUME, checkpoint=checkpoint)


def _without_key(base: StagePlan, known: Undecided, past: _Past) -> StagePlan:
    """A stage runs for certain when something of its own differs; else a missing part decides."""
    causes = past.causes(known.partial, known.reasons)
    certain = any(cause.code is not ReasonCode.RECORD_MISSING for cause in causes)
    verdict = Verdict.RUN if certain else Verdict.UNDECIDED
    return replace(base, verdict=verdict, reasons=(*causes, *known.reasons))
