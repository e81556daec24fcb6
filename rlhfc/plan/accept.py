"""What ``rlhfc accept`` may bless: a stage's last result, under the key that the stage has now."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from rlhfc.compile.action import Action
from rlhfc.compile.keys import KeyDocument
from rlhfc.compile.reasons import Reason, ReasonCode
from rlhfc.errors import Diagnostic, UserError, listing
from rlhfc.plan.compare import changes_between
from rlhfc.plan.held import other_kind
from rlhfc.plan.verdict import StagePlan, StoreReader
from rlhfc.plan.words import sentence
from rlhfc.store.records import ActionResult


@dataclass(frozen=True)
class Candidate:
    """A result, and what it would stand for.

    Attributes:
        result: as it was made, under its own key.
        known: the key document that it shall stand for.
        recorded: numeric and runtime values that it was made with.
        changes: what differs between the two keys; empty where the store has forgotten.
    """

    result: ActionResult
    known: KeyDocument
    recorded: Mapping[str, Any]
    changes: tuple[Reason, ...]

    @property
    def stored(self) -> dict[str, Any]:
        """What the store keeps beside the new key: what it stands for, and what it was made with."""
        return {**self.known.stored, "recorded": dict(self.recorded)}


def candidate(action: Action, planned: StagePlan, store: StoreReader) -> Candidate:
    """The stage's last result, or the one that it holds, and what accepting it would mean.

    Args:
        action: the stage.
        planned: its verdict.
        store: holds the result.

    Raises:
        UserError: there is no result, no key to accept it under, or nothing to accept.
    """
    stage, known = action.stage, planned.known
    result = _last_result(action, planned, store)
    if not isinstance(known, KeyDocument):
        missing = known.reasons if known is not None else ()
        because = "; ".join(sentence(reason) for reason in missing)
        raise UserError(
            Diagnostic(f"{stage}: its key cannot be known yet: {because}", hint=_way_out(missing))
        )
    if store.lookup(known.key) is not None:
        raise UserError(
            Diagnostic(f"{stage}: nothing to accept: there is a result under its key already, `{known.key}`")
        )
    kept = store.key_document(result.key) or {}
    before = kept.get("document")
    changes = changes_between(before, known.document, frozenset()) if before is not None else []
    return Candidate(result, known, kept.get("recorded", known.recorded), tuple(changes))


def _last_result(action: Action, planned: StagePlan, store: StoreReader) -> ActionResult:
    stage = action.stage
    last = planned.result.key if planned.result else store.last_key(action.pipeline, stage)
    if last is None:
        message = f"{stage}: there is no result to accept: the stage has never run in this pipeline"
        raise UserError(Diagnostic(message, hint="`rlhfc run` makes one"))
    result = planned.result or store.lookup(last)
    if result is None:
        message = f"{stage}: there is no result to accept: the last one, under `{last}`, is not whole"
        raise UserError(Diagnostic(message, hint="`rlhfc run` makes one"))
    other = other_kind(action, result, store)
    if other is not None:
        hint = f"kind of this stage: `{action.kind.name}`"
        raise UserError(Diagnostic(f"{stage}: its last result {other}", hint=hint))
    return result


def _way_out(missing: tuple[Reason, ...]) -> str | None:
    pending = [reason.after for reason in missing if reason.code is ReasonCode.UPSTREAM_PENDING]
    stages = list(dict.fromkeys(port.rpartition(".")[0] for port in pending))
    return f"run or accept {listing(stages)} first" if stages else None
