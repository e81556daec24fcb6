"""Which stages a plan is about, when it is not about all of them."""

from __future__ import annotations

from collections.abc import Collection, Iterator
from dataclasses import dataclass, replace

from rlhfc.compile.action import Pipeline
from rlhfc.compile.world import Libraries
from rlhfc.errors import Diagnostic, Mark, UserError
from rlhfc.plan.planner import Plan, make_plan
from rlhfc.plan.verdict import StagePlan, StoreReader, Verdict


@dataclass(frozen=True)
class Selection:
    """What was asked for; where nothing was, every stage counts. Several conditions all hold.

    Attributes:
        target: these and everything upstream of them.
        start: these and everything downstream of them.
        until: everything but what is downstream of these.
        forced: those among the chosen that run whatever the store holds.
    """

    target: tuple[str, ...] = ()
    start: tuple[str, ...] = ()
    until: tuple[str, ...] = ()
    forced: tuple[str, ...] = ()

    def __str__(self) -> str:
        options = {"--target": self.target, "--from": self.start, "--until": self.until}
        return " ".join(f"{option} {name}" for option, names in options.items() for name in names)


@dataclass(frozen=True)
class Selected:
    """What that comes to.

    Attributes:
        chosen: stages that may run.
        required: stages upstream of these that ``--from`` leaves out: they must be cached.
        asked: the selection.
    """

    chosen: frozenset[str]
    required: frozenset[str]
    asked: Selection


def select(pipeline: Pipeline, asked: Selection) -> Selected:
    """Choose stages; the names are those of stages.

    Raises:
        UserError: no stage is left, or a stage that is to be forced is left out.
    """
    chosen = set(pipeline.actions)
    if asked.target:
        chosen &= set(asked.target) | _above(asked.target, pipeline)
    if asked.start:
        chosen &= set(asked.start) | _below(asked.start, pipeline)
    chosen -= _below(asked.until, pipeline)
    if not chosen:
        hint = "given together, all of them hold: leave one out"
        raise UserError(Diagnostic(f"`{asked}` leaves no stage to run", hint=hint))
    lost = [name for name in asked.forced if name not in chosen]
    if lost:
        raise UserError(Diagnostic(f"`--force {name}` is left out by `{asked}`") for name in lost)
    return Selected(frozenset(chosen), frozenset(_above(chosen, pipeline) - chosen), asked)


def restricted(pipeline: Pipeline, selected: Selected) -> Pipeline:
    """The pipeline without the stages that are left out and that nothing chosen reads from."""
    kept = selected.chosen | selected.required
    return replace(
        pipeline, actions={name: action for name, action in pipeline.actions.items() if name in kept}
    )


def plan_selected(pipeline: Pipeline, selected: Selected, store: StoreReader, libraries: Libraries) -> Plan:
    """Plan what is selected; see :func:`rlhfc.plan.planner.make_plan`.

    Raises:
        UserError: with a diagnostic for each stage that is required and not cached.
    """
    plan = make_plan(restricted(pipeline, selected), store, libraries, selected.asked.forced)
    missing = list(_missing(plan, selected))
    if missing:
        raise UserError(missing)
    return plan


def with_skipped(plan: Plan, pipeline: Pipeline) -> Plan:
    """The plan of a restricted pipeline as one of the whole: what was left out is skipped."""
    stages = {
        name: plan.stages.get(name)
        or StagePlan(name, action.kind.name, Verdict.SKIPPED, key=None, line=action.line)
        for name, action in pipeline.actions.items()
    }
    return Plan(pipeline, stages)


def _missing(plan: Plan, selected: Selected) -> Iterator[Diagnostic]:
    start = " ".join(f"--from {name}" for name in selected.asked.start)
    for name, planned in plan.stages.items():
        if name in selected.required and planned.result is None:
            mark = Mark(plan.pipeline.actions[name].file, planned.line, 1)
            message = f"{name} is left out by `{start}`, and is not cached"
            yield Diagnostic(message, mark, f"make it first, with `--target {name}`, or leave out `--from`")


def _below(names: Collection[str], pipeline: Pipeline) -> set[str]:
    """Stages downstream of any of these; the pipeline is in topological order, so one pass will do."""
    found: set[str] = set()
    for stage in pipeline.actions:
        if any(upstream in names or upstream in found for upstream in pipeline.upstream(stage)):
            found.add(stage)
    return found


def _above(names: Collection[str], pipeline: Pipeline) -> set[str]:
    """Stages upstream of any of these."""
    found: set[str] = set()
    for stage in reversed(list(pipeline.actions)):
        if stage in names or stage in found:
            found.update(pipeline.upstream(stage))
    return found
