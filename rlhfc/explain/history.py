"""Runs and acceptances as the ledger tells of them, newest first: pure functions of a list of entries."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass
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


@dataclass(frozen=True)
class Accepted:
    """A result that somebody lets stand under another key.

    Attributes:
        time: UTC, ISO 8601.
        before: key that it was made or accepted under.
        key: what it stands under as well.
    """

    pipeline: str
    stage: str
    time: str
    before: str
    key: str
    who: str
    why: str


def events_of(entries: Sequence[Entry], pipeline: str | None, lives: Lives) -> list[Run | Accepted]:
    """Every run, where it began, and every acceptance, the newest first.

    Args:
        entries: the ledger's.
        pipeline: only events of this one; None for all.
        lives: tells a run that goes on from one that died.
    """
    heard: dict[str, list[Entry]] = {}
    for entry in entries:
        if "run" in entry:
            heard.setdefault(entry["run"], []).append(entry)
    told = (entry for entry in reversed(entries) if entry["event"] in ("run", "accepted"))
    wanted = (entry for entry in told if pipeline in (None, entry["pipeline"]))
    return [
        _run(entry, heard[entry["run"]], lives) if entry["event"] == "run" else _accepted(entry)
        for entry in wanted
    ]


def _accepted(entry: Entry) -> Accepted:
    return Accepted(
        pipeline=entry["pipeline"],
        stage=entry["stage"],
        time=entry["time"],
        before=entry["from"],
        key=entry["key"],
        who=entry["who"],
        why=entry["why"],
    )


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


def history_lines(events: Sequence[Run | Accepted], limit: int, now: datetime) -> list[str]:
    """One line an event, and under a run's one for each stage that ran."""
    if not events:
        return ["no runs yet"]
    lines: list[str] = []
    for event in events[:limit]:
        if isinstance(event, Accepted):
            lines.append("  ".join(_acceptance(event, now)))
        else:
            lines.append("  ".join(filter(None, _heading(event, now))))
            lines += _stages(event)
    rest = len(events) - limit
    return [*lines, f"{rest} earlier: `-n {len(events)}` shows all"] if rest > 0 else lines


def _acceptance(event: Accepted, now: datetime) -> list[str]:
    keys = f"{quantities.value(event.before)} as {quantities.value(event.key)}"
    said = f"by {event.who}: {' '.join(event.why.split())}"
    return ["accepted", quantities.ago(event.time, now), event.pipeline, event.stage, keys, said]


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


def history_document(events: Sequence[Run | Accepted], limit: int) -> dict[str, Any]:
    """The same as plain values, runs and acceptances apart."""
    shown = events[:limit]
    return {
        "format_version": FORMAT_VERSION,
        "runs": [_document(event) for event in shown if isinstance(event, Run)],
        "acceptances": [asdict(event) for event in shown if isinstance(event, Accepted)],
    }


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
