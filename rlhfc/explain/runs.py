"""Runs as the ledger tells of them, the newest first: pure functions of a list of entries."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any

from rlhfc.explain import FORMAT_VERSION
from rlhfc.plan import quantities
from rlhfc.store.ledger_lines import Entry

Lives = Callable[[Mapping[str, Any] | None], bool]
"""Whether the process that a ``head`` names is there; an older rlhfc has named none."""


@dataclass(frozen=True)
class Ran:
    """A stage that a run did not simply find: how it ended, seconds in that run, why it ran."""

    stage: str
    state: str
    seconds: float
    reasons: tuple[str, ...]


@dataclass(frozen=True)
class Run:
    """One run.

    Attributes:
        began: UTC, ISO 8601.
        commit: of its spec, as in the ledger.
        state: ``done``, ``failed``, ``interrupted``, ``running``, or ``lost`` when it died.
        seconds: wall time; None until it has ended.
        stages: those that did not stay as they were.
        cached: how many did.
    """

    id: str
    pipeline: str
    spec: str
    began: str
    commit: Mapping[str, Any] | None
    state: str
    seconds: float | None
    stages: tuple[Ran, ...]
    cached: int


def runs_of(entries: Sequence[Entry], pipeline: str | None, lives: Lives) -> list[Run]:
    """Every run, the newest first.

    Args:
        entries: the ledger's.
        pipeline: only runs of this one; None for all.
        lives: tells a run that goes on from one that died.
    """
    heard: dict[str, list[Entry]] = {}
    for entry in entries:
        if "run" in entry:
            heard.setdefault(entry["run"], []).append(entry)
    began = (entry for entry in reversed(entries) if entry["event"] == "run")
    wanted = (entry for entry in began if pipeline in (None, entry["pipeline"]))
    return [_run(entry, heard[entry["run"]], lives) for entry in wanted]


def _run(began: Entry, heard: Iterable[Entry], lives: Lives) -> Run:
    by_event: dict[str, list[Entry]] = {}
    for entry in heard:
        by_event.setdefault(entry["event"], []).append(entry)
    ended = by_event.get("ended", [None])[0]
    # Why a stage ran is noted at the end; until then there is what was published.
    told = by_event.get("stage") or by_event.get("published", [])
    return Run(
        id=began["run"],
        pipeline=began["pipeline"],
        spec=began["spec"],
        began=began["time"],
        commit=began.get("commit"),
        state=ended["state"] if ended else "running" if lives(began.get("head")) else "lost",
        seconds=ended["seconds"] if ended else None,
        stages=tuple(
            Ran(entry["stage"], entry.get("state", "done"), entry["seconds"], tuple(entry.get("reasons", ())))
            for entry in told
        ),
        cached=sum(stage["state"] == "cached" for stage in ended["stages"].values()) if ended else 0,
    )


def history_lines(runs: Sequence[Run], limit: int, now: datetime) -> list[str]:
    """One line a run, and under it one for each stage that ran."""
    if not runs:
        return ["no runs yet"]
    lines: list[str] = []
    for run in runs[:limit]:
        lines.append("  ".join(filter(None, _heading(run, now))))
        lines += _stages(run)
    rest = len(runs) - limit
    return [*lines, f"{rest} earlier: `-n {len(runs)}` shows all"] if rest > 0 else lines


def _heading(run: Run, now: datetime) -> list[str]:
    took = f" in {quantities.duration(run.seconds)}" if run.seconds is not None else ""
    cached = f"{run.cached} cached" if run.cached else ""
    commit = quantities.commit(run.commit) if run.commit else ""
    return [run.id, quantities.ago(run.began, now), run.pipeline, commit, f"{run.state}{took}", cached]


def _stages(run: Run) -> list[str]:
    width = max((len(ran.stage) for ran in run.stages), default=0)
    states = [
        f"{ran.state} {quantities.duration(ran.seconds)}" if ran.seconds else ran.state for ran in run.stages
    ]
    column = max(map(len, states), default=0)
    return [
        f"  {ran.stage:<{width}}  {state:<{column}}  {'; '.join(ran.reasons)}".rstrip()
        for ran, state in zip(run.stages, states, strict=True)
    ]


def history_document(runs: Sequence[Run], limit: int) -> dict[str, Any]:
    """The same as plain values."""
    return {"format_version": FORMAT_VERSION, "runs": [_document(run) for run in runs[:limit]]}


def _document(run: Run) -> dict[str, Any]:
    return {
        "run": run.id,
        "pipeline": run.pipeline,
        "spec": run.spec,
        "began": run.began,
        "commit": run.commit,
        "state": run.state,
        "seconds": run.seconds,
        "cached": run.cached,
        "stages": [
            {
                "stage": ran.stage,
                "state": ran.state,
                "seconds": ran.seconds,
                "reasons": list(ran.reasons),
            }
            for ran in run.stages
        ],
    }
