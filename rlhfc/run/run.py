"""``rlhfc run`` as a function: plan, check, execute, record."""

from __future__ import annotations

import os
import platform
import secrets
import time
from collections.abc import Callable, Collection, Mapping
from contextlib import closing
from dataclasses import asdict, dataclass
from datetime import UTC, datetime

from rlhfc import __version__
from rlhfc.compile.action import Pipeline
from rlhfc.compile.reasons import PENDING, Reason
from rlhfc.compile.world import World
from rlhfc.identity import own_identity
from rlhfc.plan.compare import changes_between
from rlhfc.plan.planner import Plan
from rlhfc.plan.select import Selected, plan_selected
from rlhfc.plan.verdict import StoreReader
from rlhfc.plan.words import sentences
from rlhfc.provenance import commit_of
from rlhfc.remote.source import Source, with_restores
from rlhfc.run import preflight
from rlhfc.run.board import Board
from rlhfc.run.care import Interrupts
from rlhfc.run.deadline import Deadline, Lookout
from rlhfc.run.display import Display, LastingDisplay
from rlhfc.run.executor import Executor, Means
from rlhfc.run.outcome import EXIT_INTERRUPTED, THERE, RunOutcome, StageOutcome, State
from rlhfc.run.process import LocalLauncher
from rlhfc.run.recover import settle_store
from rlhfc.run.signals import counted, dumped
from rlhfc.run.slots import Slots
from rlhfc.run.space import SpaceCheck
from rlhfc.store.store import Store

STOPPING = (
    "stopping: running stages save a checkpoint first; once more ends them now",
    "ending: running stages are told to end; once more kills them",
    "killing what still runs",
)


@dataclass(frozen=True)
class Machine:
    """Slots of this machine.

    Attributes:
        cpus: threads that may run at once.
        devices: numbers of the GPUs that may be used.
    """

    cpus: int
    devices: tuple[int, ...]


@dataclass(frozen=True)
class Terms:
    """What the user asks of one run.

    Attributes:
        forced: stages that run whatever there is.
        deadline: when it has to have stopped, or None.
        space: whether it is refused where the disk is too small.
        source: the shared store that results are restored from, or None.
    """

    forced: Collection[str] = ()
    deadline: Deadline | None = None
    space: bool = True
    source: Source | None = None


NO_TERMS = Terms()


def this_machine_slots(gpus: int, visible: str | None) -> Machine:
    """Tell what stages may use: the CPUs of our affinity, and GPUs by number.

    Args:
        gpus: how many there are.
        visible: ``CUDA_VISIBLE_DEVICES``; ``deepspeed --include`` wants the numbers in it.
    """
    cpus = len(os.sched_getaffinity(0))
    named = [part.strip() for part in (visible or "").split(",")]
    if gpus and all(part.isdecimal() for part in named):
        return Machine(cpus, tuple(int(part) for part in named)[:gpus])
    return Machine(cpus, tuple(range(gpus)))


def run_pipeline(
    plan: Plan,
    store: Store,
    world: World,
    machine: Machine,
    show: Callable[[Board], Display],
    terms: Terms = NO_TERMS,
) -> RunOutcome:
    """Run what is not done yet, of a plan that :func:`check` has let pass.

    Args:
        plan: the verdicts.
        store: where results go.
        world: this machine, as keys see it.
        machine: its slots.
        show: shows how it gets on.
        terms: what the user asks of this run.

    Raises:
        UserError: what is to run does not fit on the disk.
    """
    began, pipeline = time.monotonic(), plan.pipeline
    executor = Executor(pipeline, _means(plan, store, world, machine, terms), terms.forced)
    if terms.source is not None:
        terms.source.warn_to(lambda text: executor.board.say(f"warning: {text}"))
    before = {stage: store.last_key(pipeline.name, stage) for stage in pipeline.actions}
    run = f"{datetime.now(UTC):%Y%m%dT%H%M%S}-{secrets.token_hex(3)}"
    if not plan.nothing_to_do:
        settle_store(store, executor.board.say)
    # Where nothing is launched, a result of another pipeline or of an earlier edit may come to stand here.
    noted = not plan.nothing_to_do or any(before[name] != each.key for name, each in plan.stages.items())
    if noted:
        _record_start(run, pipeline, store)
    interrupts = Interrupts()
    stages = _attended(executor, run, interrupts, show, terms.deadline)
    seconds = time.monotonic() - began
    outcome = RunOutcome(run, pipeline.name, stages, interrupts.level > 0, seconds, interrupts.reason)
    record(outcome, plan, before, store)
    if noted:
        _record_end(outcome, store)
    return outcome


def _means(plan: Plan, store: Store, world: World, machine: Machine, terms: Terms) -> Means:
    """What the run uses.

    Raises:
        UserError: what is to run does not fit on the disk.
    """
    space = SpaceCheck.of(plan, store) if terms.space else None
    if space is not None:
        space.check_run(plan)
    return Means(
        store=store,
        libraries=world.libraries,
        digests=world.digests,
        slots=Slots(machine.cpus, machine.devices),
        launcher=LocalLauncher(),
        space=space,
        gpus=len(machine.devices),
        source=terms.source,
    )


def _attended(
    executor: Executor,
    run: str,
    interrupts: Interrupts,
    show: Callable[[Board], Display],
    deadline: Deadline | None,
) -> Mapping[str, StageOutcome]:
    """Execute, shown, with signals and the deadline obeyed; how each stage ended."""
    lookout = Lookout(deadline, executor.care.working) if deadline is not None else None

    def stop() -> None:
        interrupts.ask()
        executor.board.say(STOPPING[min(interrupts.level, len(STOPPING)) - 1])

    def tick() -> None:
        if lookout is not None and (level := lookout.level()) > interrupts.level:
            interrupts.at_least(level, lookout.words)
            executor.board.say(STOPPING[level - 1])
        display.refresh()

    with (
        counted(stop),
        dumped(executor.care.dump),
        closing(LastingDisplay(show(executor.board))) as display,
    ):
        return executor.run(run, interrupts, tick)


def _record_start(run: str, pipeline: Pipeline, store: Store) -> None:
    """Note what the run is of, and the process by which others see whether it goes on."""
    commit = commit_of(pipeline.files) if pipeline.files else None
    store.ledger.append(
        "run",
        run=run,
        pipeline=pipeline.name,
        spec=str(pipeline.spec),
        commit=commit.document if commit else None,
        python=platform.python_version(),
        rlhfc=__version__,
        head=asdict(own_identity()),
    )


def _record_end(outcome: RunOutcome, store: Store) -> None:
    """Note how the run ended, and for each stage under which key: the whole pipeline as the run left it."""
    states = {0: "done", EXIT_INTERRUPTED: "interrupted"}
    store.ledger.append(
        "ended",
        run=outcome.run,
        pipeline=outcome.pipeline,
        state=states.get(outcome.exit_status, "failed"),
        reason=outcome.reason,
        seconds=round(outcome.seconds, 3),
        stages={
            name: {"kind": ended.kind, "state": str(ended.state), "key": ended.key}
            for name, ended in outcome.stages.items()
        },
    )


def check(pipeline: Pipeline, selected: Selected, store: StoreReader, world: World, machine: Machine) -> Plan:
    """Plan what is selected, and refuse what cannot be carried out; writes nothing.

    Raises:
        UserError: something is known to fail.
    """
    plan = with_restores(plan_selected(pipeline, selected, store, world.libraries), store)
    preflight.check(plan, len(machine.devices), world.libraries, os.environ)
    return plan


def record(outcome: RunOutcome, plan: Plan, before: Mapping[str, str | None], store: Store) -> None:
    """Note in the ledger how each stage ended and why it ran; a stage that is as it was needs no line.

    Args:
        outcome: how the run ended.
        plan: verdicts before it.
        before: key of each stage's last result before it.
        store: has the ledger.
    """
    for stage, ended in outcome.stages.items():
        if ended.state in THERE | {State.RESTORED}:
            if store.last_key(outcome.pipeline, stage) != ended.key:
                store.ledger.append(
                    "cached", run=outcome.run, pipeline=outcome.pipeline, stage=stage, key=ended.key
                )
            continue
        store.ledger.append(
            "stage",
            run=outcome.run,
            pipeline=outcome.pipeline,
            stage=stage,
            key=ended.key,
            state=str(ended.state),
            seconds=round(ended.seconds, 3),
            faults=list(ended.faults),
            adjusted=dict(ended.adjusted),
            reasons=sentences(_causes(plan.stages[stage].reasons, before[stage], ended.key, store)),
        )


def _causes(planned: tuple[Reason, ...], before: str | None, key: str | None, store: Store) -> list[Reason]:
    """Tell why a stage ran: what the plan said or, where that waited for an input, what came of it."""
    known = [reason for reason in planned if reason.code not in PENDING]
    if len(known) == len(planned) or key is None or before is None:
        return known or list(planned)
    old, new = store.key_document(before), store.key_document(key)
    if old is None or new is None:
        return known or list(planned)
    return changes_between(old["document"], new["document"], frozenset()) or known
