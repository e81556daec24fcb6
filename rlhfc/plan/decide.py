"""Decides one stage, and why: the same function for a plan, and for a run when the stage's turn comes."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Any

from rlhfc.compile.action import Action
from rlhfc.compile.ignored import as_before
from rlhfc.compile.keys import KeyDocument, Undecided, key_document
from rlhfc.compile.reasons import Reason, ReasonCode
from rlhfc.compile.world import Libraries
from rlhfc.plan.compare import Difference, changes_between, differences_between, in_config
from rlhfc.plan.held import held_result, refusal
from rlhfc.plan.verdict import StagePlan, StoreReader, Verdict
from rlhfc.store.records import acceptance_of

EARLIER = 100
"""Results before the last one that are compared; beyond these a stage is told to run that may be cached."""


def decide(
    action: Action,
    outputs: Mapping[tuple[str, str], str],
    store: StoreReader,
    libraries: Libraries,
    *,
    forced: bool = False,
) -> StagePlan:
    """Decide one stage.

    Args:
        action: the stage.
        outputs: tree digest of each upstream output that is known, by stage and port.
        store: results, key documents and checkpoints there are.
        libraries: version of an installed distribution.
        forced: whether it runs whatever the store holds.

    Raises:
        UserError: the launch template fails, the stage holds a result that is not there, or is forced
            although it holds one.
    """
    known = key_document(action, outputs, libraries)
    last = store.last_key(action.pipeline, action.stage)
    past = _Past(last, store.key_document(last) if last is not None else None)
    base = _base(action, known, past)
    if action.held:
        return _held(base, action, known, past, store, forced=forced)
    if forced:
        missing = known.reasons if isinstance(known, Undecided) else ()
        return _resumed(replace(base, reasons=(Reason(ReasonCode.FORCED), *missing)), action, store)
    found = _found(base, action, known, past, store)
    if found is not None:
        return found
    eased = _eased(action, outputs, libraries, past)
    if eased is None:
        return _to_do(base, action, known, past, store)
    ignored = _ignored(eased, known)
    found = _found(base, action, eased, past, store)
    if found is not None:
        return replace(found, ignored=ignored)
    return replace(_to_do(base, action, eased, past, store), ignored=ignored)


def _base(action: Action, known: KeyDocument | Undecided, past: _Past) -> StagePlan:
    """What holds whatever is decided."""
    return StagePlan(
        stage=action.stage,
        kind=action.kind.name,
        verdict=Verdict.RUN,
        key=known.key if isinstance(known, KeyDocument) else None,
        differences=past.differences(known),
        line=action.line,
        known=known,
    )


@dataclass(frozen=True)
class _Past:
    """The stage's last result in this pipeline, as far as the store remembers it."""

    key: str | None
    kept: Mapping[str, Any] | None

    def differences(self, known: KeyDocument | Undecided) -> tuple[Difference, ...]:
        """Values beside the key that were others; those that are in the key now are reasons instead."""
        found = differences_between((self.kept or {}).get("recorded", {}), known.recorded)
        return tuple(each for each in found if not in_config(known.document, each.path))

    @property
    def document(self) -> Mapping[str, Any] | None:
        """Its key document."""
        return (self.kept or {}).get("document")

    def causes(self, document: Mapping[str, Any], missing: tuple[Reason, ...]) -> tuple[Reason, ...]:
        """Why a stage has no result under its key; empty when only a missing part could tell."""
        if self.key is None:
            return (Reason(ReasonCode.NEVER_RUN),)
        if self.document is None:
            return (Reason(ReasonCode.RECORD_MISSING),)
        changes = changes_between(self.document, document, frozenset(part.path for part in missing))
        if not changes and not missing:
            # The last result had this very key, and the store no longer has all of it.
            return (Reason(ReasonCode.RESULT_MISSING),)
        return tuple(changes)


def _found(
    base: StagePlan, action: Action, known: KeyDocument | Undecided, past: _Past, store: StoreReader
) -> StagePlan | None:
    """The stage as cached, when its key is known and there is a result under it with every output."""
    result = store.lookup(known.key) if isinstance(known, KeyDocument) else None
    if result is None or action.lacking(result.outputs):
        return None
    assert base.known is not None
    made = past if past.key == result.key else _Past(result.key, store.key_document(result.key))
    return replace(
        base,
        verdict=Verdict.CACHED,
        key=result.key,
        result=result,
        differences=made.differences(base.known),
        accepted=acceptance_of(made.kept),
    )


def _eased(
    action: Action, outputs: Mapping[tuple[str, str], str], libraries: Libraries, past: _Past
) -> KeyDocument | Undecided | None:
    """The key document with what is ignored as it was in the last one; None where it is the same."""
    before = as_before(action, past.document) if past.document is not None else None
    return key_document(before, outputs, libraries) if before is not None else None


def _ignored(eased: KeyDocument | Undecided, known: KeyDocument | Undecided) -> tuple[Reason, ...]:
    """What is put back in ``eased``; a library that is let go is a difference beside the key, or nothing."""
    missing = known.reasons if isinstance(known, Undecided) else ()
    found = changes_between(eased.document, known.document, frozenset(part.path for part in missing))
    return tuple(change for change in found if change.code is not ReasonCode.LIBRARY_CHANGED)


def _to_do(
    base: StagePlan, action: Action, known: KeyDocument | Undecided, past: _Past, store: StoreReader
) -> StagePlan:
    """A stage without a result: it runs, resumes, or waits for what its key lacks.

    ``known`` has what is ignored as it was, so that it is no reason; a run is made with the values now.
    """
    if isinstance(base.known, Undecided):
        return _without_key(base, action, known, past, store)
    there = store.lookup(known.key) if isinstance(known, KeyDocument) else None
    lacking = action.lacking(there.outputs) if there is not None else ()
    without = tuple(Reason(ReasonCode.OUTPUT_MISSING, port) for port in lacking)
    return _resumed(replace(base, reasons=without or past.causes(known.document, ())), action, store)


def _resumed(planned: StagePlan, action: Action, store: StoreReader) -> StagePlan:
    """A stage that runs goes on from the newest checkpoint of its key, if it has left one."""
    if planned.key is None or not action.kind.resumable:
        return planned
    checkpoint = store.checkpoint(action.stage, planned.key)
    if checkpoint is None:
        return planned
    return replace(planned, verdict=Verdict.RESUME, checkpoint=checkpoint)


def _without_key(
    base: StagePlan, action: Action, known: KeyDocument | Undecided, past: _Past, store: StoreReader
) -> StagePlan:
    """A stage runs for certain when every result differs in something known; else what waits decides."""
    assert isinstance(base.known, Undecided)
    still = known.reasons if isinstance(known, Undecided) else ()
    causes = past.causes(known.document, still)
    differs = any(cause.code is not ReasonCode.RECORD_MISSING for cause in causes)
    certain = differs and not _fits_earlier(action, base.known, store)
    verdict = Verdict.RUN if certain else Verdict.UNDECIDED
    return replace(base, verdict=verdict, reasons=(*causes, *base.known.reasons))


def _fits_earlier(action: Action, known: Undecided, store: StoreReader) -> bool:
    """Whether some result before the last one agrees in every part of the key that is known."""
    pending = frozenset(part.path for part in known.reasons)
    for key in store.earlier_keys(action.pipeline, action.stage)[:EARLIER]:
        document = (store.key_document(key) or {}).get("document")
        if document is not None and not changes_between(document, known.document, pending):
            return True
    return False


def _held(
    base: StagePlan,
    action: Action,
    known: KeyDocument | Undecided,
    past: _Past,
    store: StoreReader,
    *,
    forced: bool,
) -> StagePlan:
    """A frozen or pinned stage: its result stands, and the plan says although what."""
    if forced:
        hint = f"pass `--thaw {action.stage}` as well"
        raise refusal(action, "it is frozen, and `--force` would run it", hint)
    result = held_result(action, past.key, store)
    made = past if past.key == result.key else _Past(result.key, store.key_document(result.key))
    missing = known.reasons if isinstance(known, Undecided) else ()
    same = isinstance(known, KeyDocument) and known.key == result.key
    return replace(
        base,
        verdict=Verdict.FROZEN,
        key=result.key,
        reasons=() if same else (*made.causes(known.document, missing), *missing),
        result=result,
        differences=made.differences(known),
        pinned=action.params.pin is not None,
        accepted=acceptance_of(made.kept),
    )
