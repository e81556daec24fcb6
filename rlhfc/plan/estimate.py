"""What the stages that run will take, told from earlier results: wall time, GPU time, disk.

The law: a stage takes as many GPU-seconds as it took last time, whatever the number of ranks, so its
wall time is divided by the ranks of now; on the CPU, whose cores the ranks share, it is taken as it
was. What was made on another device, or was never made, tells nothing. A stage that resumes takes for
each step that is left what its attempts took for each that is done.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from typing import Any, Literal, Protocol

from rlhfc.compile.action import Action
from rlhfc.plan.planner import Plan, StagePlan, Verdict
from rlhfc.store.ledger_lines import Made
from rlhfc.store.records import ActionResult

CERTAIN = frozenset({Verdict.RUN, Verdict.RESUME})
POSSIBLE = CERTAIN | {Verdict.UNDECIDED}
# Stages of other pipelines whose key documents are read to find one of the same kind.
OTHERS = 100


class History(Protocol):
    """What an estimate asks of a store."""

    def made(self) -> Sequence[Made]:
        """Every result there has been, newest first."""

    def record(self, key: str) -> ActionResult | None:
        """What an action yielded, whether or not its files are still there."""

    def key_document(self, key: str) -> Mapping[str, Any] | None:
        """What was kept beside a key: ``document`` and ``recorded``."""


Basis = Literal["attempts", "stage", "kind"]
Spent = Callable[[str, str], float]
"""Stage and key to the wall seconds that the attempts of a running action have taken so far."""


@dataclass(frozen=True)
class Estimate:
    """What one stage will take.

    Attributes:
        seconds: wall time.
        gpu_seconds: seconds of all GPUs together; 0 on the CPU.
        size: bytes of its outputs, or None when no result tells.
        basis: what it is told from: its own ``attempts`` so far, a result of the ``stage``, or one of
            another stage of its ``kind``.
        source: that stage, as ``pipeline/stage``.
    """

    seconds: float
    gpu_seconds: float
    size: int | None
    basis: Basis
    source: str


@dataclass(frozen=True)
class Total:
    """What several stages will take.

    Attributes:
        seconds: the least that it will take: the longest path through the graph, and all GPU-seconds
            shared by the GPUs there are.
        gpu_seconds: of all stages together.
        size: bytes of all outputs together.
        unknown: stages without an estimate, which the sums leave out.
    """

    seconds: float
    gpu_seconds: float
    size: int
    unknown: tuple[str, ...]


def estimates(plan: Plan, history: History, spent: Spent) -> dict[str, Estimate]:
    """Estimate every stage that runs or may run, as far as there are earlier results."""
    past = _Past(history, spent)
    found = {
        name: past.estimate(plan.pipeline.actions[name], planned)
        for name, planned in plan.stages.items()
        if planned.verdict in POSSIBLE
    }
    return {name: estimate for name, estimate in found.items() if estimate is not None}


def total(plan: Plan, known: Mapping[str, Estimate], verdicts: Collection[Verdict], gpus: int) -> Total:
    """Sum the stages of some verdicts up.

    Args:
        plan: the verdicts.
        known: estimates by stage.
        verdicts: which to count.
        gpus: those that may be used here; where they are too few for a stage, the plan is for another
            machine and they say nothing.
    """
    counted = [name for name, planned in plan.stages.items() if planned.verdict in verdicts]
    told = {name: known[name] for name in counted if name in known}
    finished: dict[str, float] = {}
    for name in plan.stages:
        began = max((finished[upstream] for upstream in plan.pipeline.upstream(name)), default=0.0)
        finished[name] = began + (told[name].seconds if name in told else 0.0)
    gpu_seconds = sum((estimate.gpu_seconds for estimate in told.values()), 0.0)
    on_gpus = (name for name, estimate in told.items() if estimate.gpu_seconds)
    widest = max((plan.pipeline.actions[name].params.ranks for name in on_gpus), default=0)
    shared = gpu_seconds / gpus if 0 < widest <= gpus else 0.0
    return Total(
        seconds=max(shared, *finished.values()),
        gpu_seconds=gpu_seconds,
        size=sum(estimate.size or 0 for estimate in told.values()),
        unknown=tuple(name for name in counted if name not in told),
    )


@dataclass(frozen=True)
class _Run:
    """What a stage took, and how it was run."""

    made: Made
    kind: str
    device: str
    ranks: int
    seconds: float
    size: int | None

    def fits(self, action: Action) -> bool:
        return (self.kind, self.device) == (action.kind.name, action.device)


class _Past:
    """Earlier results by stage and by kind; each is read when it is asked for."""

    def __init__(self, history: History, spent: Spent) -> None:
        self._history, self._spent = history, spent

    def estimate(self, action: Action, planned: StagePlan) -> Estimate | None:
        own = self._by_stage.get((action.pipeline, action.stage), [])
        run = self._first(self._results(own), action)
        basis: Basis = "stage"
        if run is None:
            run, basis = self._first(self._others, action), "kind"
        begun = self._begun(action, planned)
        if begun is not None and begun.fits(action):
            run, basis = replace(begun, size=run.size if run else None), "attempts"
        return _scaled(run, action, planned, basis) if run is not None else None

    @cached_property
    def _by_stage(self) -> dict[tuple[str, str], list[Made]]:
        found: dict[tuple[str, str], list[Made]] = {}
        for made in self._history.made():
            found.setdefault((made.pipeline, made.stage), []).append(made)
        return found

    @cached_property
    def _others(self) -> list[_Run]:
        newest = [entries[0] for entries in self._by_stage.values()]
        return list(self._results(newest[:OTHERS]))

    @staticmethod
    def _first(runs: Iterator[_Run] | list[_Run], action: Action) -> _Run | None:
        return next((run for run in runs if run.fits(action)), None)

    def _results(self, entries: list[Made]) -> Iterator[_Run]:
        for made in entries:
            result = self._history.record(made.key)
            run = self._run(made, result.seconds, result.size) if result is not None else None
            if run is not None:
                yield run

    def _begun(self, action: Action, planned: StagePlan) -> _Run | None:
        """The running action as if it had gone on to its end as quickly as it came to its checkpoint."""
        if planned.key is None or planned.checkpoint is None:
            return None
        step, last = planned.checkpoint
        seconds = self._spent(action.stage, planned.key)
        if step == 0 or seconds == 0:
            return None
        return self._run(Made(action.pipeline, action.stage, planned.key), seconds * last / step, None)

    def _run(self, made: Made, seconds: float, size: int | None) -> _Run | None:
        kept = self._history.key_document(made.key)
        if kept is None or "document" not in kept:
            return None
        device, ranks = _of(kept, "device"), _of(kept, "ranks")
        if not isinstance(device, str) or not isinstance(ranks, int):
            return None
        return _Run(made, kept["document"]["kind"], device, ranks, seconds, size)


def taken(kept: Mapping[str, Any] | None, seconds: float) -> tuple[float, float]:
    """GPU-seconds, and wall seconds on the CPU, of a result that took ``seconds`` of wall time.

    Args:
        kept: what is kept beside its key; where nothing is, it counts as made on the CPU.
        seconds: of all its attempts.
    """
    try:
        device, ranks = (_of(kept, "device"), _of(kept, "ranks")) if kept else (None, None)
    except KeyError:
        device = ranks = None
    if device == "gpu" and isinstance(ranks, int):
        return seconds * ranks, 0.0
    return 0.0, seconds


def _of(kept: Mapping[str, Any], leaf: str) -> Any:
    """A leaf that is recorded beside the key, or is part of it."""
    recorded = kept.get("recorded", {}).get(f"params.{leaf}")
    return recorded if recorded is not None else kept["document"]["config"]["params"].get(leaf)


def _scaled(run: _Run, action: Action, planned: StagePlan, basis: Basis) -> Estimate:
    seconds = run.seconds
    if planned.checkpoint is not None:
        step, last = planned.checkpoint
        seconds *= 1 - step / last if last else 1
    gpu_seconds = seconds * run.ranks if action.device == "gpu" else 0.0
    return Estimate(
        seconds=gpu_seconds / action.params.ranks if gpu_seconds else seconds,
        gpu_seconds=gpu_seconds,
        size=run.size,
        basis=basis,
        source=f"{run.made.pipeline}/{run.made.stage}",
    )
