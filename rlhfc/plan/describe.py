"""From a plan to its document: see :mod:`rlhfc.plan.document`."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence

from rlhfc.compile.action import Action, ResolvedSource
from rlhfc.compile.reasons import Reason, ReasonCode
from rlhfc.errors import listing
from rlhfc.plan.document import (
    FORMAT_VERSION,
    CommitDocument,
    EstimateDocument,
    PlanDocument,
    ReasonDocument,
    StageDocument,
    TotalDocument,
)
from rlhfc.plan.estimate import CERTAIN, POSSIBLE, Estimate, Total, total
from rlhfc.plan.planner import Plan, StagePlan, Verdict
from rlhfc.plan.words import sentence
from rlhfc.provenance import Commit


def plan_document(
    plan: Plan,
    store: str,
    gpus: int,
    known: Mapping[str, Estimate],
    warnings: Sequence[str] = (),
    commit: Commit | None = None,
    remote: str | None = None,
) -> PlanDocument:
    """The plan as plain values. Within format 1 fields are only ever added.

    Args:
        plan: the verdicts.
        store: folder of the results, as the user named it.
        gpus: those that may be used on this machine.
        known: what stages will take.
        warnings: what the store said while it was read.
        commit: that of the spec.
        remote: the shared store that was asked, if one was.
    """
    return {
        "format_version": FORMAT_VERSION,
        "pipeline": plan.pipeline.name,
        "spec": str(plan.pipeline.spec),
        "commit": CommitDocument(id=commit.id, dirty=commit.dirty, branch=commit.branch) if commit else None,
        "store": store,
        "gpus": gpus,
        "remote": remote,
        "changes": not plan.nothing_to_do,
        "summary": {str(verdict): plan.count(verdict) for verdict in Verdict},
        "estimate": {
            "certain": _total(total(plan, known, CERTAIN, gpus)),
            "possible": _total(total(plan, known, POSSIBLE, gpus)),
        },
        "hints": list(_hints(plan)),
        "warnings": list(warnings),
        "stages": [
            _stage(stage, plan.pipeline.actions[name], known.get(name)) for name, stage in plan.stages.items()
        ],
    }


def _stage(stage: StagePlan, action: Action, estimate: Estimate | None) -> StageDocument:
    result, checkpoint, accepted = stage.result, stage.checkpoint, stage.accepted
    return {
        "stage": stage.stage,
        "kind": stage.kind,
        "variant": dict(action.variant),
        "file": str(action.file),
        "line": stage.line,
        "verdict": stage.verdict.value,
        "key": stage.key,
        "reasons": [_reason(reason) for reason in stage.reasons],
        "ignored": [_reason(reason) for reason in stage.ignored],
        "pinned": stage.pinned,
        "differences": [
            {"path": found.path, "before": found.before, "after": found.after} for found in stage.differences
        ],
        "resume": {"step": checkpoint[0], "total": checkpoint[1]} if checkpoint else None,
        "result": {
            "finished": result.finished,
            "seconds": result.seconds,
            "size": result.size,
            "outputs": dict(result.outputs),
        }
        if result
        else None,
        "accepted": {
            "before": accepted.before,
            "who": accepted.who,
            "why": accepted.why,
            "time": accepted.time,
        }
        if accepted
        else None,
        "estimate": _estimate(estimate) if estimate else None,
    }


def _estimate(estimate: Estimate) -> EstimateDocument:
    return {
        "seconds": round(estimate.seconds, 3),
        "gpu_seconds": round(estimate.gpu_seconds, 3),
        "size": estimate.size,
        "basis": estimate.basis,
        "source": estimate.source,
    }


def _total(summed: Total) -> TotalDocument:
    return {
        "seconds": round(summed.seconds, 3),
        "gpu_seconds": round(summed.gpu_seconds, 3),
        "size": summed.size,
        "unknown": list(summed.unknown),
    }


def _reason(reason: Reason) -> ReasonDocument:
    return {
        "code": str(reason.code),
        "path": reason.path,
        "before": reason.before,
        "after": reason.after,
        "text": sentence(reason),
    }


def _hints(plan: Plan) -> Iterator[str]:
    """What keeps keys from being known here, each once."""
    reasons = [reason for stage in plan.stages.values() for reason in stage.reasons]
    missing = dict.fromkeys(reason.path for reason in reasons if reason.code is ReasonCode.LIBRARY_MISSING)
    if missing:
        are = "are" if len(missing) > 1 else "is"
        yield f"{listing(list(missing))} {are} not installed here: keys are known where the stages can run"
    unresolved = dict.fromkeys(
        reason.after for reason in reasons if reason.code is ReasonCode.SOURCE_UNRESOLVED
    )
    if len(unresolved) == 1:
        yield from unresolved
    elif unresolved:
        way_out = "pin them with `revision:` (40 hex digits) or use `--mirror`"
        yield f"commits of {listing(_unresolved_ids(plan))} are not known here: {way_out}"


def _unresolved_ids(plan: Plan) -> list[str]:
    """Hub ids whose commit is not known here, each once."""
    bindings = (binding for action in plan.pipeline.actions.values() for binding in action.inputs.values())
    unresolved = (found for found in bindings if isinstance(found, ResolvedSource) and found.digest is None)
    return list(dict.fromkeys(source.hub[0] for source in unresolved if source.hub is not None))
