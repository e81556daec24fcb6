"""The executor: starts every stage whose upstream is done, in a thread of its own, until none is left.

Only the main thread decides and shows; a stage's thread waits for its lock, its slots and its
command. Stages whose results are there already never get a thread.
"""

from __future__ import annotations

import os
import queue
import threading
from collections.abc import Callable, Collection, Mapping
from dataclasses import dataclass

from rlhfc.compile.action import Action, Pipeline
from rlhfc.compile.digests import Digester
from rlhfc.compile.keys import KeyDocument
from rlhfc.compile.world import Libraries
from rlhfc.errors import UserError
from rlhfc.plan.decide import decide
from rlhfc.plan.verdict import StagePlan, StoreReader, Verdict
from rlhfc.plan.words import sentence
from rlhfc.remote.source import Both, Source
from rlhfc.run import preflight
from rlhfc.run.board import Board
from rlhfc.run.care import Care, Interrupts
from rlhfc.run.outcome import GOOD, Failure, StageOutcome, State
from rlhfc.run.process import Launcher
from rlhfc.run.restore import restore
from rlhfc.run.shop import Workshop
from rlhfc.run.slots import Slots
from rlhfc.run.space import SpaceCheck
from rlhfc.run.stage import StageRun
from rlhfc.run.summary import FIGURES, figures
from rlhfc.store.holder import Holder
from rlhfc.store.pins import Pins
from rlhfc.store.store import Store

TICK_SECONDS = 0.1


@dataclass(frozen=True)
class Means:
    """What a run uses.

    Attributes:
        libraries: version of an installed distribution.
        digests: digests of local files, to see whether they change.
        space: refuses what cannot fit on the disk; None for no such check.
        gpus: those that stages may use.
        source: the shared store that results are restored from, if there is one.
    """

    store: Store
    libraries: Libraries
    digests: Digester
    slots: Slots
    launcher: Launcher
    space: SpaceCheck | None = None
    gpus: int = 0
    source: Source | None = None


@dataclass(frozen=True)
class Unrestored:
    """A stage whose result could not be restored, although the shared store had it."""

    stage: str


class Executor:
    """Runs one pipeline once."""

    def __init__(self, pipeline: Pipeline, means: Means, forced: Collection[str] = ()) -> None:
        self.pipeline, self.means, self.forced = pipeline, means, forced
        self.board = Board(pipeline.actions.values())
        self.care = Care()
        self.pins = Pins(means.store.layout, means.store.locks, Holder.me())
        self.outcomes: dict[str, StageOutcome] = {}
        self._outputs: dict[tuple[str, str], str] = {}
        self._reader: StoreReader = means.store if means.source is None else Both(means.store, means.source)
        self._unrestored: set[str] = set()
        self._pending = list(pipeline.actions)
        self._threads: dict[str, threading.Thread] = {}
        self._ended: queue.SimpleQueue[StageOutcome | Unrestored | BaseException] = queue.SimpleQueue()

    def run(
        self, run: str, interrupts: Interrupts, refresh: Callable[[], None]
    ) -> Mapping[str, StageOutcome]:
        """Bring every stage to an end; outcomes in the order of the pipeline.

        Args:
            run: identifier in the ledger.
            interrupts: looked at several times a second.
            refresh: shows the board; called as often.
        """
        means = self.means
        shop = Workshop(
            run,
            means.store,
            means.slots,
            self.board,
            means.launcher,
            means.digests,
            self.care,
            secrets=_secrets(self.pipeline, os.environ),
            space=means.space,
        )
        try:
            refresh()
            self._obey(interrupts)  # there may be no time left for anything
            self._advance(shop)
            while self._threads:
                refresh()
                self.pins.beat()
                self._obey(interrupts)
                if self._collect():
                    self._advance(shop)
        finally:
            self.care.escalate(3)  # nothing runs on after us, whatever went wrong here
            self.pins.drop()
        for stage in self._pending:
            self._settle(self._unstarted(stage, State.WAITING))
        refresh()
        return {stage: self.outcomes[stage] for stage in self.pipeline.actions}

    def _obey(self, interrupts: Interrupts) -> None:
        if interrupts.level > 0:
            self.care.escalate(min(interrupts.level, 3))

    def _advance(self, shop: Workshop) -> None:
        """Settle or start every stage that can be, until nothing changes."""
        while ready := [stage for stage in self._pending if self._is_ready(stage)]:
            if self.care.stopping():
                return
            for stage in ready:
                self._pending.remove(stage)
                self._begin(shop, stage)

    def _is_ready(self, stage: str) -> bool:
        return all(name in self.outcomes for name in self._awaited(stage))

    def _awaited(self, stage: str) -> tuple[str, ...]:
        """Stages that must end first; one that holds a result waits for none."""
        return () if self.pipeline.actions[stage].held else self.pipeline.upstream(stage)

    def _begin(self, shop: Workshop, stage: str) -> None:
        action, force = self.pipeline.actions[stage], stage in self.forced
        blocked_by = tuple(name for name in self._awaited(stage) if self.outcomes[name].state not in GOOD)
        if blocked_by:
            self._settle(self._unstarted(stage, State.BLOCKED, blocked_by=blocked_by))
            return
        try:
            planned = self._decide(action, force=force)
        except UserError as error:  # the plan let it pass: what a stage holds has gone meanwhile
            self._settle(self._unstarted(stage, State.FAILED, failure=_failure(error)))
            return
        if planned.result is not None and self._is_away(planned):
            self.pins.keep(planned.result.key)
            self._start(stage, lambda: self._restore(shop, stage, planned))
            return
        if planned.result is not None:
            state = State.FROZEN if planned.verdict is Verdict.FROZEN else State.CACHED
            self._settle(StageOutcome(stage, planned.kind, state, planned.key, result=planned.result))
            return
        found = planned.known
        if not isinstance(found, KeyDocument):
            missing = found.reasons if found is not None else ()
            failure = Failure("; ".join(sentence(reason) for reason in missing))
            self._settle(self._unstarted(stage, State.FAILED, failure=failure))
            return
        self.pins.keep(found.key)  # before it is looked for again
        if stage in self._unrestored and (faults := self._faults(action, planned)):
            self._settle(self._unstarted(stage, State.FAILED, failure=_unable(faults[0])))
            return
        work = StageRun(shop, action, found.key, found.stored, dict(self._outputs), force=force)
        self._start(stage, work.perform)

    def _start(self, stage: str, work: Callable[[], StageOutcome | Unrestored]) -> None:
        thread = threading.Thread(target=self._perform, args=(work,), name=stage, daemon=True)
        self._threads[stage] = thread
        self.board.change(stage, state=State.QUEUED)
        thread.start()

    def _decide(self, action: Action, *, force: bool) -> StagePlan:
        """Decide a stage; a result that is found here is pinned, and then looked for again."""
        libraries = self.means.libraries
        while True:
            planned = decide(action, self._outputs, self._reader, libraries, forced=force)
            if planned.result is None or self._is_away(planned):
                return planned
            self.pins.keep(planned.result.key, planned.result.outputs.values())
            if self.means.store.lookup(planned.result.key) == planned.result:
                return planned

    def _faults(self, action: Action, planned: StagePlan) -> list[tuple[str, str | None]]:
        """Why this machine cannot run a stage: what was to be restored has passed no check."""
        means = self.means
        return preflight.faults(action, planned.reasons, means.gpus, means.libraries, os.environ)

    def _is_away(self, planned: StagePlan) -> bool:
        return (
            isinstance(self._reader, Both) and planned.key is not None and self._reader.is_away(planned.key)
        )

    def _restore(self, shop: Workshop, stage: str, planned: StagePlan) -> StageOutcome | Unrestored:
        assert self.means.source is not None
        ended = restore(shop, self.means.source, self.pipeline.actions[stage], planned)
        return Unrestored(stage) if ended is None else ended

    def _perform(self, work: Callable[[], StageOutcome | Unrestored]) -> None:
        try:
            self._ended.put(work())
        except BaseException as error:  # the main thread raises it
            self._ended.put(error)

    def _collect(self) -> bool:
        """Wait a moment for a stage to end; tell whether one has."""
        try:
            ended = self._ended.get(timeout=TICK_SECONDS)
        except queue.Empty:
            return False
        if isinstance(ended, BaseException):
            raise ended
        self._threads.pop(ended.stage).join()
        if isinstance(ended, Unrestored):
            self._unrestored.add(ended.stage)
            self._pending.append(ended.stage)  # it is decided again, without what cannot be had
        else:
            self._settle(ended)
        return True

    def _settle(self, outcome: StageOutcome) -> None:
        stage = outcome.stage
        self.outcomes[stage] = outcome
        if outcome.result is not None:
            self.pins.keep(outcome.result.key, outcome.result.outputs.values())
            for port, tree in outcome.result.outputs.items():
                self._outputs[(stage, port)] = tree
        detail = ", ".join(outcome.blocked_by)
        if outcome.failure is not None:
            detail = outcome.failure.message
        elif outcome.result is not None:
            detail = figures(outcome.result.summary, FIGURES)
            if outcome.state is State.RESTORED and self.means.source is not None:
                detail = ", ".join(filter(None, (f"from {self.means.source.name}", detail)))
        self.board.change(stage, state=outcome.state, detail=detail, seconds=outcome.seconds)

    def _unstarted(
        self,
        stage: str,
        state: State,
        failure: Failure | None = None,
        blocked_by: tuple[str, ...] = (),
    ) -> StageOutcome:
        kind = self.pipeline.actions[stage].kind.name
        return StageOutcome(stage, kind, state, failure=failure, blocked_by=blocked_by)


def _failure(error: UserError) -> Failure:
    first = error.diagnostics[0]
    return Failure(first.message, first.hint)


def _unable(fault: tuple[str, str | None]) -> Failure:
    message, hint = fault
    return Failure(f"it could not be restored, and this machine cannot run it: {message}", hint)


def _secrets(pipeline: Pipeline, variables: Mapping[str, str]) -> dict[str, str]:
    """Value of each variable that the spec refers to, those that are not set left out."""
    return {name: variables[name] for name in sorted(pipeline.secrets) if variables.get(name)}
