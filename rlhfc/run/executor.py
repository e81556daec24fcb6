"""The executor: starts every stage whose upstream is done, in a thread of its own, until none is left.

Only the main thread decides and shows; a stage's thread waits for its lock, its slots and its
command. Stages whose results are there already never get a thread.
"""

from __future__ import annotations

import os
import queue
import threading
from collections.abc import Callable, Collection, Mapping
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

from rlhfc.compile.action import Action, Pipeline
from rlhfc.compile.digests import Digester
from rlhfc.compile.keys import KeyDocument
from rlhfc.compile.world import Libraries
from rlhfc.errors import UserError
from rlhfc.plan.decide import decide
from rlhfc.plan.verdict import StagePlan, Verdict
from rlhfc.plan.words import sentence
from rlhfc.run.board import Board
from rlhfc.run.outcome import GOOD, Failure, StageOutcome, State
from rlhfc.run.process import Launcher, Session
from rlhfc.run.shop import Workshop
from rlhfc.run.slots import Slots
from rlhfc.run.space import SpaceCheck
from rlhfc.run.stage import StageRun
from rlhfc.run.summary import FIGURES, figures
from rlhfc.store.holder import Holder
from rlhfc.store.pins import Pins
from rlhfc.store.store import Store

TICK_SECONDS = 0.1


class Interrupts:
    """How often the user has asked to stop: once to save and stop, twice to end, three times to kill."""

    def __init__(self) -> None:
        self.level = 0
        self.reason: str | None = None

    def ask(self) -> None:
        """Ask once more."""
        self.level += 1

    def at_least(self, level: int, reason: str) -> None:
        """Ask so often, for a reason that is no signal."""
        if self.level < level:
            self.level, self.reason = level, reason


class Care:
    """The commands that run now, and what has been asked of them. See :class:`rlhfc.run.shop.Control`."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._sessions: dict[Session, Path] = {}
        self._level = 0
        self._stopping = threading.Event()

    def stopping(self) -> bool:
        """Whether nothing new may be started."""
        return self._level >= 1

    def ending(self) -> bool:
        """Whether running commands have been told to end, saved or not."""
        return self._level >= 2

    def pause(self, seconds: float) -> None:
        """Wait, until the run is stopping at the latest."""
        self._stopping.wait(seconds)

    def dump(self) -> None:
        """Ask every command for its stacks, which go into its log."""
        with self._lock:
            for session in self._sessions:
                session.dump()

    def working(self) -> list[Path]:
        """Folders of the actions whose commands run now."""
        with self._lock:
            return [stop_file.parents[2] for stop_file in self._sessions.values()]

    def watch(self, session: Session, stop_file: Path) -> None:
        """Take a command into care; what was asked of the others is asked of it as well."""
        with self._lock:
            self._sessions[session] = stop_file
            self._ask(session, stop_file)

    def unwatch(self, session: Session) -> None:
        """Release a command that has ended."""
        with self._lock:
            self._sessions.pop(session, None)

    def escalate(self, level: int) -> None:
        """Ask every command to save and stop (1), to end (2), or kill it (3)."""
        with self._lock:
            if level > self._level:
                self._level = level
                self._stopping.set()
                for session, stop_file in self._sessions.items():
                    self._ask(session, stop_file)

    def _ask(self, session: Session, stop_file: Path) -> None:
        if self._level >= 1:
            with suppress(OSError):  # on a full disk nothing can be saved either
                stop_file.touch()
        if self._level == 2:
            session.terminate()
        elif self._level >= 3:
            session.kill()


@dataclass(frozen=True)
class Means:
    """What a run uses.

    Attributes:
        libraries: version of an installed distribution.
        digests: digests of local files, to see whether they change.
        space: refuses what cannot fit on the disk; None for no such check.
    """

    store: Store
    libraries: Libraries
    digests: Digester
    slots: Slots
    launcher: Launcher
    space: SpaceCheck | None = None


class Executor:
    """Runs one pipeline once."""

    def __init__(self, pipeline: Pipeline, means: Means, forced: Collection[str] = ()) -> None:
        self.pipeline, self.means, self.forced = pipeline, means, forced
        self.board = Board(pipeline.actions.values())
        self.care = Care()
        self.pins = Pins(means.store.layout, means.store.locks, Holder.me())
        self.outcomes: dict[str, StageOutcome] = {}
        self._outputs: dict[tuple[str, str], str] = {}
        self._pending = list(pipeline.actions)
        self._threads: dict[str, threading.Thread] = {}
        self._ended: queue.SimpleQueue[StageOutcome | BaseException] = queue.SimpleQueue()

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
        work = StageRun(shop, action, found.key, found.stored, dict(self._outputs), force=force)
        thread = threading.Thread(target=self._perform, args=(work,), name=stage, daemon=True)
        self._threads[stage] = thread
        self.board.change(stage, state=State.QUEUED)
        thread.start()

    def _decide(self, action: Action, *, force: bool) -> StagePlan:
        """Decide a stage; a result that is found is pinned, and then looked for again."""
        store, libraries = self.means.store, self.means.libraries
        while True:
            planned = decide(action, self._outputs, store, libraries, forced=force)
            if planned.result is None:
                return planned
            self.pins.keep(planned.result.key, planned.result.outputs.values())
            if store.lookup(planned.result.key) == planned.result:
                return planned

    def _perform(self, work: StageRun) -> None:
        try:
            self._ended.put(work.perform())
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


def _secrets(pipeline: Pipeline, variables: Mapping[str, str]) -> dict[str, str]:
    """Value of each variable that the spec refers to, those that are not set left out."""
    return {name: variables[name] for name in sorted(pipeline.secrets) if variables.get(name)}
