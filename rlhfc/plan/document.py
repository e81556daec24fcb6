"""A plan as JSON, for machines: the same facts as the text."""

from __future__ import annotations

from typing import Any

from rlhfc.compile.reasons import Reason
from rlhfc.plan.planner import Plan, StagePlan, Verdict
from rlhfc.plan.words import sentence

FORMAT_VERSION = "1.0"


def plan_document(plan: Plan) -> dict[str, Any]:
    """The plan as plain values. Within format 1 fields are only ever added."""
    return {
        "format_version": FORMAT_VERSION,
        "pipeline": plan.pipeline.name,
        "spec": str(plan.pipeline.spec),
        "changes": not plan.nothing_to_do,
        "summary": {str(verdict): plan.count(verdict) for verdict in Verdict},
        "stages": [_stage(stage) for stage in plan.stages.values()],
    }


def _stage(stage: StagePlan) -> dict[str, Any]:
    result, checkpoint = stage.result, stage.checkpoint
    return {
        "stage": stage.stage,
        "kind": stage.kind,
        "line": stage.line,
        "verdict": str(stage.verdict),
        "key": stage.key,
        "reasons": [_reason(reason) for reason in stage.reasons],
        "differences": [
            {"path": found.path, "before": found.before, "after": found.after} for found in stage.differences
        ],
        "resume": checkpoint and {"step": checkpoint[0], "total": checkpoint[1]},
        "result": result
        and {
            "finished": result.finished,
            "seconds": result.seconds,
            "size": result.size,
            "outputs": dict(result.outputs),
        },
    }


def _reason(reason: Reason) -> dict[str, Any]:
    return {
        "code": str(reason.code),
        "path": reason.path,
        "before": reason.before,
        "after": reason.after,
        "text": sentence(reason),
    }
