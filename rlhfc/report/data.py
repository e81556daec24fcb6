"""What a report says, gathered from a plan and the store: values only."""

from __future__ import annotations

import json
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from typing import Any

from rlhfc.plan.planner import Plan, StagePlan, Verdict
from rlhfc.plan.quantities import duration, size
from rlhfc.plan.words import sentences
from rlhfc.report.charts import Panel, panels_of, series_of
from rlhfc.report.graph import Graph, draw
from rlhfc.run.summary import adjusted_words, telling_first
from rlhfc.run.sweep import sweeps, table
from rlhfc.store.checkpoints import newest_with, read_metrics
from rlhfc.store.store import Store

EVALUATION_KIND = "evaluate"
MAX_SAMPLES = 24
STATES = {
    Verdict.CACHED: "done",
    Verdict.RESTORE: "to restore",
    Verdict.FROZEN: "frozen",
    Verdict.RESUME: "can resume",
    Verdict.UNDECIDED: "waits",
    Verdict.RUN: "to run",
    Verdict.SKIPPED: "left out",
}


@dataclass(frozen=True)
class StageFacts:
    """One stage of the report.

    Attributes:
        causes: why it last ran.
        figures: name and value of its summary.
        panels: curves that matter.
        more: the other curves.
    """

    stage: str
    kind: str
    state: str
    key: str
    time: str
    size: str
    attempts: int
    finished: str
    causes: tuple[str, ...]
    figures: tuple[tuple[str, str], ...]
    panels: tuple[Panel, ...]
    more: tuple[Panel, ...]


@dataclass(frozen=True)
class WinRate:
    """How often the candidate beats the baseline, by one judge; shares between 0 and 1."""

    judge: str
    win: float
    low: float
    high: float
    wins: int
    losses: int
    ties: int
    prompts: int

    @property
    def verdict(self) -> str:
        """What the interval allows to say."""
        if self.low > 0.5:
            return "better than the baseline"
        return "worse than the baseline" if self.high < 0.5 else "not told apart from the baseline"


@dataclass(frozen=True)
class Sample:
    """One prompt and both answers."""

    prompt: str
    baseline: str
    candidate: str
    scores: tuple[tuple[str, str, str], ...]


@dataclass(frozen=True)
class Evaluation:
    """What an ``evaluate`` stage found.

    Attributes:
        confidence: level of the intervals.
        metrics: name, baseline, candidate.
        count: samples there are; ``samples`` are the first of them.
    """

    stage: str
    confidence: float
    win_rates: tuple[WinRate, ...]
    metrics: tuple[tuple[str, str, str], ...]
    samples: tuple[Sample, ...]
    count: int


@dataclass(frozen=True)
class Variants:
    """Variants of one stage, side by side: a heading and a row for each."""

    stage: str
    heading: tuple[str, ...]
    rows: tuple[tuple[str, ...], ...]


@dataclass(frozen=True)
class ReportData:
    """A whole report."""

    pipeline: str
    spec: str
    written: str
    graph: Graph
    stages: tuple[StageFacts, ...]
    evaluations: tuple[Evaluation, ...]
    sweeps: tuple[Variants, ...] = ()


def gather(plan: Plan, store: Store, written: str) -> ReportData:
    """Collect everything that a report shows."""
    pipeline = plan.pipeline
    ends = _last_ends(pipeline.name, store)
    facts = [
        _stage(planned, ends.get((planned.stage, planned.key)), store) for planned in plan.stages.values()
    ]
    graph = draw(
        {name: pipeline.upstream(name) for name in pipeline.actions},
        {fact.stage: fact.kind for fact in facts},
        {fact.stage: fact.state for fact in facts},
    )
    found = [
        evaluation
        for planned in plan.stages.values()
        if planned.kind == EVALUATION_KIND and (evaluation := _evaluation(planned, store)) is not None
    ]
    spec, variants = pipeline.spec.name, tuple(_variants(plan, facts))
    return ReportData(pipeline.name, spec, written, graph, tuple(facts), tuple(found), variants)


def _variants(plan: Plan, facts: Iterable[StageFacts]) -> Iterator[Variants]:
    """A table for each stage that the matrix multiplies last."""
    results = {name: planned.result for name, planned in plan.stages.items()}
    ends = {
        fact.stage: (fact.state, result.summary if (result := results[fact.stage]) else {}) for fact in facts
    }
    for sweep in sweeps(plan.pipeline, plan.stages):
        heading, *rows = table(sweep, ends)
        yield Variants(sweep.stage, heading, tuple(rows))


def _last_ends(pipeline: str, store: Store) -> dict[tuple[str, str | None], Mapping[str, Any]]:
    """How each key of each stage last ended when it was launched."""
    entries = (entry for entry in store.ledger.read() if entry["event"] == "stage")
    return {(entry["stage"], entry["key"]): entry for entry in entries if entry["pipeline"] == pipeline}


def _stage(planned: StagePlan, end: Mapping[str, Any] | None, store: Store) -> StageFacts:
    result = planned.result
    state = STATES[planned.verdict]
    if result is None and end is not None and end["state"] in ("failed", "interrupted"):
        state = end["state"]
    causes = sentences(planned.reasons) if result is None else list((end or {}).get("reasons", ()))
    if result is not None and result.adjusted:
        causes.append(f"made with {adjusted_words(result.adjusted)}, after a lack of memory")
    summary = result.summary if result else {}
    panels, more = panels_of(series_of(_metrics(planned, store)))
    return StageFacts(
        stage=planned.stage,
        kind=planned.kind,
        state=state,
        key=planned.key or "",
        time=duration(result.seconds) if result else "",
        size=size(result.size) if result else "",
        attempts=result.attempts if result else 0,
        finished=result.finished if result else "",
        causes=tuple(causes),
        figures=tuple((name, _text(summary[name])) for name in telling_first(summary)),
        panels=tuple(panels),
        more=tuple(more),
    )


def _metrics(planned: StagePlan, store: Store) -> list[dict[str, Any]]:
    """Metrics of the result, or so far those of the running action."""
    if planned.result is not None:
        return store.metrics(planned.result)
    if planned.key is None:
        return []
    path = newest_with(store.work(planned.stage, planned.key), "metrics.jsonl")
    return read_metrics(path) if path is not None else []


def _evaluation(planned: StagePlan, store: Store) -> Evaluation | None:
    tree = planned.result.outputs.get("report") if planned.result else None
    if tree is None:
        return None
    files = {entry.path: store.blob(entry.digest) for entry in store.tree(tree)}
    if "evaluation.json" not in files:
        return None
    text = json.loads(files["evaluation.json"].read_bytes())
    names = WinRate.__dataclass_fields__.keys() - {"judge"}
    rates = [
        WinRate(judge=judge, **{name: found[name] for name in names})
        for judge, found in text["win_rate"].items()
    ]
    samples = read_metrics(files["samples.jsonl"]) if "samples.jsonl" in files else []
    return Evaluation(
        stage=planned.stage,
        confidence=float(text.get("confidence", 0.95)),
        win_rates=tuple(rates),
        metrics=tuple(
            (name, _text(sides.get("baseline")), _text(sides.get("candidate")))
            for name, sides in text["metrics"].items()
        ),
        samples=tuple(_sample(line) for line in samples[:MAX_SAMPLES]),
        count=len(samples),
    )


def _sample(line: Mapping[str, Any]) -> Sample:
    scores = (
        (judge, _text(sides.get("baseline")), _text(sides.get("candidate")))
        for judge, sides in line.get("scores", {}).items()
    )
    return Sample(str(line["prompt"]), str(line["baseline"]), str(line["candidate"]), tuple(scores))


def _text(value: Any) -> str:
    if isinstance(value, float):
        return f"{value:.4g}"
    return "" if value is None else str(value)
