"""One stage of a run: lock its key, look again, launch, verify, publish."""

from __future__ import annotations

import os
import sys
import time
from collections.abc import Mapping
from contextlib import suppress
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any, Protocol

from rlhfc.compile.action import Action, Launch, WorkPaths
from rlhfc.compile.digests import Digester
from rlhfc.compile.render import launch_argv, launch_environment, resolved_config
from rlhfc.compile.secrets import revealed
from rlhfc.run.attempt import Attempt, Status, attempts_since_done, new_attempt, settle_leftovers
from rlhfc.run.board import Board
from rlhfc.run.inputs import DownloadError, Inputs, Outputs, changed_code, changed_input, materialise
from rlhfc.run.judge import StageFailedError, judge
from rlhfc.run.locks import StoppedError, key_lock
from rlhfc.run.outcome import Failure, StageOutcome
from rlhfc.run.outcome import State as StageState
from rlhfc.run.process import Launcher, Session, free_port
from rlhfc.run.slots import Grant, Slots, need_of
from rlhfc.run.verify import Manifest
from rlhfc.store.checkpoints import set_damaged_aside
from rlhfc.store.digest import canonical_json
from rlhfc.store.files import make_folder, remove_tree, write_atomic
from rlhfc.store.ledger import utc_now
from rlhfc.store.publish import Product, remove_outputs
from rlhfc.store.records import ActionResult, DamagedRecordError
from rlhfc.store.store import Store


class Control(Protocol):
    """What a stage's thread asks of the run that it belongs to."""

    def stopping(self) -> bool:
        """Whether nothing new may be started."""

    def ending(self) -> bool:
        """Whether running commands have been told to end, saved or not."""

    def watch(self, session: Session, stop_file: Path) -> None:
        """Take a running command into the run's care."""

    def unwatch(self, session: Session) -> None:
        """Release a command that has ended."""


@dataclass(frozen=True)
class Workshop:
    """What all stages of a run share.

    Attributes:
        secrets: of the whole spec: every stage inherits all variables of ours, and may tell them.
        made: keys that this run has made. Who forces a stage wants it made once, not for each of its
            variants that come to the same.
    """

    run: str
    store: Store
    slots: Slots
    board: Board
    launcher: Launcher
    digests: Digester
    control: Control
    secrets: Mapping[str, str]
    made: set[str] = field(default_factory=set)


class StageRun:
    """Brings one action to a result. Lives in one thread."""

    def __init__(
        self,
        shop: Workshop,
        action: Action,
        key: str,
        document: Mapping[str, Any],
        outputs: Outputs,
        *,
        force: bool = False,
    ) -> None:
        self.shop, self.action, self.key = shop, action, key
        self.document, self.outputs, self.force = document, outputs, force
        self.work = shop.store.work(action.stage, key)
        self.launched: float | None = None
        self.attempt: Attempt | None = None

    def perform(self) -> StageOutcome:
        """Do it; what goes wrong is in the outcome.

        Raises:
            Exception: a mistake of ours.
        """
        shop, stage = self.shop, self.action.stage
        try:
            lock = shop.store.layout.lock(self.key)
            with key_lock(lock, shop.control.stopping, self._announce_wait):
                result = None if self._replaces else shop.store.lookup(self.key)
                if result is not None:  # another run has made it meanwhile
                    return self._outcome(StageState.CACHED, result=result)
                for line in settle_leftovers(self.work):
                    shop.board.say(line)
                shop.board.change(stage, state=StageState.QUEUED, detail="waits for a slot")
                need = need_of(self.action)
                with shop.slots.held(need, shop.control.stopping) as grant:
                    if grant is None:
                        raise StoppedError
                    result = self._attempt(grant)
                shop.made.add(self.key)
            return self._outcome(StageState.DONE, result=result)
        except StoppedError:
            return self._outcome(StageState.WAITING)
        except StageFailedError as failed:
            state = StageState.INTERRUPTED if failed.state == "interrupted" else StageState.FAILED
            return self._outcome(state, failure=failed.failure)
        except DownloadError as error:
            return self._outcome(StageState.FAILED, failure=Failure(str(error), error.hint))
        except DamagedRecordError as damage:
            hint = "run the same command again: what is damaged is made anew"
            return self._outcome(StageState.FAILED, failure=Failure(f"an input is damaged: {damage}", hint))
        except OSError as error:
            text = f"{error.strerror or error}: `{error.filename}`" if error.filename else str(error)
            return self._outcome(StageState.FAILED, failure=Failure(text))

    @property
    def _replaces(self) -> bool:
        """Whether the result that is there is to be replaced, once it has been made anew."""
        return self.force and self.key not in self.shop.made

    def _attempt(self, grant: Grant) -> ActionResult:
        """Launch, wait, judge, publish.

        Raises:
            StageFailedError: it did not end well.
        """
        shop, action = self.shop, self.action
        inputs = materialise(action, self.outputs, shop.store)
        paths = self._prepare()
        session, status = self._launch(grant, inputs, paths)
        assert self.attempt is not None
        try:
            exit = session.wait()
        finally:
            shop.control.unwatch(session)
        status = replace(status, ended=utc_now(), returncode=exit.returncode)
        try:
            manifest = judge(exit, self.attempt, paths, self.key, ending=shop.control.ending())
            self._check_inputs(inputs)
            result = self._publish(manifest, inputs, paths, status)
        except StageFailedError as failed:
            self.attempt.write_status(replace(status, state=failed.state, reason=failed.failure.message))
            raise
        except OSError as error:
            with suppress(OSError):  # the disk that is full will not take this either
                self.attempt.write_status(replace(status, state="failed", reason=str(error)))
            raise
        # The status comes last: a crash before it has the next run tidy up.
        remove_outputs(self.work, shop.store.layout.scratch)
        self.attempt.write_status(replace(status, state="done"))
        return result

    def _prepare(self) -> WorkPaths:
        """Make the work folder and the next attempt's; empty the outputs of the one before."""
        store, action = self.shop.store, self.action
        make_folder(self.work)
        owner = {"key": self.key, "pipeline": action.pipeline, "stage": action.stage}
        write_atomic(self.work / "key.json", canonical_json(owner) + b"\n")
        store.write_document(self.key, self.document)
        if (self.work / "out").exists():
            remove_tree(self.work / "out", store.layout.scratch)
        outputs = {port: self.work / "out" / port for port in action.kind.outputs}
        for folder in outputs.values():
            folder.mkdir(parents=True)
        self.attempt = new_attempt(self.work)
        paths = WorkPaths(self.work, self.attempt.folder, outputs)
        paths.checkpoints.mkdir(exist_ok=True)
        for line in set_damaged_aside(self.work, self.key):
            self.shop.board.say(f"{action.stage}: {line}")
        if store.checkpoint(action.stage, self.key) is None:
            paths.metrics.unlink(missing_ok=True)  # nothing to go on from: its lines are no one's
        return paths

    def _launch(self, grant: Grant, inputs: Inputs, paths: WorkPaths) -> tuple[Session, Status]:
        shop, action, attempt = self.shop, self.action, self.attempt
        assert attempt is not None
        launch = Launch(
            device=action.device,
            ranks=str(action.params.ranks),
            port=str(free_port()),
            include=f"localhost:{','.join(map(str, grant.devices))}",
            python=sys.executable,
        )
        argv = launch_argv(action, launch, str(paths.config))
        environment = _environment(launch_environment(action))
        attempt.write_launch(argv, resolved_config(action, self.key, inputs.places, paths), environment)
        status = Status(
            pipeline=action.pipeline,
            stage=action.stage,
            key=self.key,
            run=shop.run,
            state="running",
            started=utc_now(),
            devices=grant.devices,
        )
        # The status precedes the process: a crash between the two leaves nothing unnoticed, because
        # a leftover is known by its environment as well as by its number.
        attempt.write_status(status)
        if shop.control.stopping():
            attempt.write_status(replace(status, state="interrupted", ended=utc_now()))
            raise StoppedError
        resumed = shop.store.checkpoint(action.stage, self.key)
        session = self._start(argv, environment, attempt)
        shop.control.watch(session, paths.stop_file)
        status = replace(status, head=session.identity)
        attempt.write_status(status)
        self.launched = time.monotonic()
        shop.board.change(
            action.stage,
            state=StageState.RUNNING,
            detail="",
            work=self.work,
            log=attempt.log,
            started=self.launched,
            resumed_at=resumed[0] if resumed else 0,
        )
        return session, status

    def _start(self, argv: list[str], environment: dict[str, str], attempt: Attempt) -> Session:
        """Start the command; what has been written of it holds references in the place of secrets."""
        secrets = self.shop.secrets
        return self.shop.launcher.start(argv, revealed(environment, secrets), attempt.folder, secrets)

    def _check_inputs(self, inputs: Inputs) -> None:
        address = changed_input(self.action, inputs, self.shop.digests)
        file = changed_code(self.action, self.shop.digests)
        what = f"input `{address}`" if address is not None else f"code `{file}`"
        if address is not None or file is not None:
            failure = Failure(
                f"its {what} changed while it ran, so its outputs belong to neither version",
                "leave the files alone and run the same command again",
            )
            raise StageFailedError("failed", failure)

    def _publish(self, manifest: Manifest, inputs: Inputs, paths: WorkPaths, status: Status) -> ActionResult:
        tried = attempts_since_done(self.work)
        product = Product(
            run=self.shop.run,
            pipeline=self.action.pipeline,
            stage=self.action.stage,
            key=self.key,
            document=self.document,
            ports=paths.outputs,
            metrics=paths.metrics,
            summary=manifest.summary,
            seconds=sum(found.seconds for found in tried) + status.seconds,
            attempts=len(tried),
            inputs=inputs.trees,
        )
        if self._replaces:
            self.shop.store.forget(self.key)  # not before: a stage that fails must not cost its last result
        return self.shop.store.publish(product)

    def _outcome(
        self, state: StageState, result: ActionResult | None = None, failure: Failure | None = None
    ) -> StageOutcome:
        checkpoint = None if result else self.shop.store.checkpoint(self.action.stage, self.key)
        return StageOutcome(
            stage=self.action.stage,
            kind=self.action.kind.name,
            state=state,
            key=self.key,
            seconds=time.monotonic() - self.launched if self.launched is not None else 0.0,
            attempt=self.attempt.number if self.attempt else None,
            result=result,
            failure=failure,
            checkpoint=checkpoint,
        )

    def _announce_wait(self) -> None:
        stage, board = self.action.stage, self.shop.board
        board.change(stage, state=StageState.QUEUED, detail="another run is making it")
        board.say(f"{stage}: another run is making it; waiting for its result")


def _environment(added: Mapping[str, str]) -> dict[str, str]:
    """Variables that a launch gets on top of ours; lists of folders go in front of what is there."""
    environment = {"PYTHONUNBUFFERED": "1", **added}
    environment["PATH"] = _in_front(str(Path(sys.executable).parent), "PATH")
    if "PYTHONPATH" in added:
        environment["PYTHONPATH"] = _in_front(added["PYTHONPATH"], "PYTHONPATH")
    return environment


def _in_front(folder: str, variable: str) -> str:
    there = os.environ.get(variable)
    return f"{folder}{os.pathsep}{there}" if there else folder
