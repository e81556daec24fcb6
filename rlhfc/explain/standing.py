"""Where the stages of a pipeline stand: verdict, newest attempt, and how far a running one is."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from rlhfc.explain import FORMAT_VERSION
from rlhfc.plan.planner import Plan, StagePlan
from rlhfc.plan.quantities import duration
from rlhfc.run.attempt import Attempt, attempts
from rlhfc.run.meter import recent
from rlhfc.run.summary import adjusted_words, figures
from rlhfc.store.checkpoints import newest_with
from rlhfc.store.store import Store

FIGURES = 2
RUNNING = "running"


@dataclass(frozen=True)
class Standing:
    """One stage.

    Attributes:
        state: the plan's verdict, or ``running`` while an attempt of it is alive.
        progress: step and last step of a running stage, once it has told them.
        attempt: how the newest attempt ended, in words.
        summary: figures of its result.
    """

    stage: str
    kind: str
    state: str
    progress: tuple[int, int] | None
    attempt: str
    summary: Mapping[str, float | int | str]


def standings(plan: Plan, store: Store) -> list[Standing]:
    """Every stage, in the order of the plan."""
    return [_standing(plan, planned, store) for planned in plan.stages.values()]


def standing_lines(found: list[Standing]) -> list[str]:
    """A table, one line a stage."""
    rows = [("stage", "kind", "state", "last attempt", "figures")]
    rows += [
        (item.stage, item.kind, _state_words(item), item.attempt, figures(item.summary, FIGURES))
        for item in found
    ]
    widths = [max(len(row[column]) for row in rows) for column in range(len(rows[0]))]
    return [
        "  ".join(cell.ljust(width) for cell, width in zip(row, widths, strict=True)).rstrip() for row in rows
    ]


def standing_document(found: list[Standing]) -> dict[str, Any]:
    """The same as plain values."""
    stages = [
        {
            "stage": item.stage,
            "kind": item.kind,
            "state": item.state,
            "progress": {"step": item.progress[0], "total": item.progress[1]} if item.progress else None,
            "last_attempt": item.attempt or None,
            "summary": dict(item.summary),
        }
        for item in found
    ]
    return {"format_version": FORMAT_VERSION, "stages": stages}


def attempt_words(attempt: Attempt | None) -> str:
    """How an attempt ended, and why where that is not well."""
    status = attempt.status() if attempt else None
    if attempt is None or status is None:
        return ""
    if status.state == RUNNING:
        return RUNNING if attempt.lives() else "died with its run"
    words = f"{status.state} {duration(status.seconds)}" if status.ended else status.state
    if status.adjusted:
        words += f" with {adjusted_words(status.adjusted)}"
    return f"{words}: {status.reason}" if status.reason else words


def newest_attempt(store: Store, stage: str, key: str | None) -> Attempt | None:
    """The newest attempt of an action, if there is one."""
    found = attempts(store.work(stage, key)) if key is not None else []
    return found[-1] if found else None


def _standing(plan: Plan, planned: StagePlan, store: Store) -> Standing:
    key = planned.key or store.last_key(plan.pipeline.name, planned.stage)
    newest = newest_attempt(store, planned.stage, key)
    running = key is not None and newest is not None and newest.lives()
    return Standing(
        stage=planned.stage,
        kind=planned.kind,
        state=RUNNING if running else str(planned.verdict),
        progress=_progress(store, planned.stage, key) if running and key is not None else None,
        attempt=attempt_words(newest),
        summary=planned.result.summary if planned.result is not None else {},
    )


def _progress(store: Store, stage: str, key: str) -> tuple[int, int] | None:
    path = newest_with(store.work(stage, key), "metrics.jsonl")
    values = recent(path) if path is not None else {}
    step, total = values.get("step"), values.get("total")
    return (step, total) if isinstance(step, int) and isinstance(total, int) else None


def _state_words(item: Standing) -> str:
    return f"{item.state} {item.progress[0]}/{item.progress[1]}" if item.progress else item.state
