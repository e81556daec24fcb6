"""One launch of an action: its folder and files, the command under watch, and what came of it."""

from __future__ import annotations

import errno
import os
import platform
import re
import sys
import time
from collections.abc import Mapping
from contextlib import suppress
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from rlhfc.compile.action import Action, Launch, WorkPaths
from rlhfc.compile.render import launch_argv, launch_environment, resolved_config
from rlhfc.compile.secrets import revealed
from rlhfc.run import logs
from rlhfc.run.attempt import Attempt, Status, new_attempt, take_over
from rlhfc.run.deadline import MARGIN, saving_seconds
from rlhfc.run.fault import LOOKED_AT, Fault
from rlhfc.run.inputs import Inputs
from rlhfc.run.judge import StageFailedError, judge
from rlhfc.run.machine import memory_kills
from rlhfc.run.outcome import Failure
from rlhfc.run.outcome import State as StageState
from rlhfc.run.process import Exit, Session, free_port
from rlhfc.run.retry import memory_hint
from rlhfc.run.shop import Workshop
from rlhfc.run.slots import Grant
from rlhfc.run.space import checkpoint_size, full_failure
from rlhfc.run.verify import Manifest
from rlhfc.run.watchdog import HEARTBEAT, Limits, Watchdog
from rlhfc.store.checkpoints import set_damaged_aside
from rlhfc.store.digest import canonical_json
from rlhfc.store.files import make_folder, write_atomic
from rlhfc.store.guarded import guarded
from rlhfc.store.leases import Hold
from rlhfc.store.ledger import utc_now
from rlhfc.store.locks import StoppedError

# How Python names the file that did not fit.
WRITTEN = re.compile(r"(?:No space left on device|Disk quota exceeded): '([^']+)'")


@dataclass(frozen=True)
class Order:
    """What is launched.

    Attributes:
        action: the stage, with the batch that this launch gets.
        document: key document, as the store keeps it.
        adjusted: what it has otherwise than the spec.
    """

    action: Action
    key: str
    document: Mapping[str, Any]
    inputs: Inputs
    grant: Grant
    adjusted: Mapping[str, int]


class AttemptRun:
    """A launch. Its status is on disk before the process is there, and says how it ended after it."""

    def __init__(self, shop: Workshop, order: Order, hold: Hold) -> None:
        """Make the attempt's folder, which takes over from the one before, and write down what is launched.

        Args:
            shop: what all stages share.
            order: what is launched.
            hold: the lock of the action's key; when it is lost, the command is ended.

        Raises:
            OSError: the disk is full or failing.
        """
        self.shop, self.order, self.hold = shop, order, hold
        self.work = shop.store.work(order.action.stage, order.key)
        self._make_work()
        self.folder: Attempt = new_attempt(self.work)
        take_over(self.work, self.folder, shop.store.layout.scratch)
        self.paths = WorkPaths(self.work, self.folder.folder, self._make_outputs())
        self._settle_checkpoints()
        self._environment = _environment(launch_environment(order.action))
        self._argv = self._write_launch()
        self.began = time.monotonic()
        self.status = self._first_status()

    def run(self) -> Manifest:
        """Launch, wait and judge; return the outputs manifest.

        Raises:
            StageFailedError: it is not done.
            StoppedError: the run is stopping, and it has not been launched.
            LostLockError: another run has taken the action over.
        """
        shop, kills = self.shop, memory_kills()
        # The status precedes the process: a crash between the two leaves nothing unnoticed, because
        # a leftover is known by its environment as well as by its number.
        self.folder.write_status(self.status)
        if shop.control.stopping():
            self.folder.write_status(replace(self.status, state="interrupted", ended=utc_now()))
            raise StoppedError
        session = self._start()
        self.hold.when_lost(session.kill)
        try:
            with self._watchdog(session) as watchdog:
                exit = session.wait()
        finally:
            shop.control.unwatch(session)
        self.status = replace(
            self.status,
            ended=utc_now(),
            returncode=exit.returncode,
            checkpoint_after=self._step(),
            checkpoint_size=checkpoint_size(self.work),
        )
        self.hold.check()
        return self._judge(exit, watchdog, killed_for_memory=(memory_kills() or 0) > (kills or 0))

    def settle(self, failed: StageFailedError) -> None:
        """Write down that it did not end well."""
        status = replace(self.status, state=failed.state, reason=failed.failure.message, fault=failed.fault)
        if status.ended is None:
            status = replace(status, ended=utc_now())
        with suppress(OSError):  # the disk that is full will not take this either
            self.folder.write_status(status)

    def done(self) -> None:
        """Write down that its result is published."""
        self.folder.write_status(replace(self.status, state="done"))

    def _make_work(self) -> None:
        store, action = self.shop.store, self.order.action
        make_folder(self.work)
        owner = {"key": self.order.key, "pipeline": action.pipeline, "stage": action.stage}
        write_atomic(self.work / "key.json", canonical_json(guarded(owner)) + b"\n")
        store.write_document(self.order.key, self.order.document)

    def _make_outputs(self) -> dict[str, Path]:
        outputs = {port: self.folder.folder / "out" / port for port in self.order.action.kind.outputs}
        for folder in outputs.values():
            folder.mkdir(parents=True)
        return outputs

    def _settle_checkpoints(self) -> None:
        """See to the checkpoints before they are gone on from: what is damaged must not be the newest."""
        for line in set_damaged_aside(self.shop.store.layout.root, self.work, self.order.key):
            self.shop.board.say(f"{self.order.action.stage}: {line}")
        if not self._step():
            self.paths.metrics.unlink(missing_ok=True)  # nothing to go on from: its lines are no one's

    def _write_launch(self) -> list[str]:
        order, paths = self.order, self.paths
        launch = Launch(
            device=order.action.device,
            ranks=str(order.action.params.ranks),
            port=str(free_port()),
            include=f"localhost:{','.join(map(str, order.grant.devices))}",
            python=sys.executable,
        )
        argv = launch_argv(order.action, launch, str(paths.config))
        config = resolved_config(order.action, order.key, order.inputs.places, paths)
        self.folder.write_launch(argv, config, self._environment)
        return argv

    def _first_status(self) -> Status:
        return Status(
            pipeline=self.order.action.pipeline,
            stage=self.order.action.stage,
            key=self.order.key,
            run=self.shop.run,
            state="running",
            started=utc_now(),
            devices=self.order.grant.devices,
            host=platform.node(),
            checkpoint_before=self._step(),
            adjusted=self.order.adjusted,
        )

    def _start(self) -> Session:
        """Start the command; what has been written of it holds references in the place of secrets."""
        shop, action = self.shop, self.order.action
        variables = revealed(self._environment, shop.secrets)
        session = shop.launcher.start(
            self._argv, variables, self.folder.folder, shop.secrets, action.params.ranks
        )
        shop.control.watch(session, self.paths.stop_file)
        self.status = replace(self.status, head=session.identity)
        self.folder.write_status(self.status)
        self.began = time.monotonic()
        shop.board.change(
            action.stage,
            state=StageState.RUNNING,
            detail="",
            work=self.folder.folder,
            log=self.folder.log,
            started=self.began,
            resumed_at=self.status.checkpoint_before,
        )
        return session

    def _watchdog(self, session: Session) -> Watchdog:
        params = self.order.action.params
        saving = lambda: max(MARGIN, saving_seconds([self.work]))  # noqa: E731
        signs = (self.folder.log, self.paths.metrics, self.folder.folder / HEARTBEAT)
        limits = Limits(params.no_progress_timeout, params.timeout, saving)
        return Watchdog(session, limits, signs, self.paths.stop_file)

    def _judge(self, exit: Exit, watchdog: Watchdog, *, killed_for_memory: bool) -> Manifest:
        try:
            return judge(
                exit,
                self.folder,
                self.paths,
                self.order.key,
                ending=self.shop.control.ending(),
                killed_for_memory=killed_for_memory,
            )
        except StageFailedError as failed:
            raise self._explained(failed, watchdog) from failed

    def _explained(self, failed: StageFailedError, watchdog: Watchdog) -> StageFailedError:
        """Say what lies behind a failure that we have brought about, or that the user can avoid."""
        failure = failed.failure
        if watchdog.fault is Fault.TIMEOUT:
            hint = "raise `timeout`; the same command goes on from the newest checkpoint"
            return StageFailedError(
                "failed", replace(failure, message=watchdog.words, hint=hint), Fault.TIMEOUT
            )
        if watchdog.fault is not None and failed.state == "failed":
            message = f"{watchdog.words}, and was ended; its log has its stacks"
            return StageFailedError("failed", replace(failure, message=message), watchdog.fault)
        if failed.fault is Fault.DISK:
            return StageFailedError(failed.state, self._disk_failure(failure), Fault.DISK)
        if failed.fault is Fault.MEMORY:
            return StageFailedError(
                failed.state, replace(failure, hint=memory_hint(self.order.action)), Fault.MEMORY
            )
        return failed

    def _disk_failure(self, failure: Failure) -> Failure:
        """Tell where there was no space, what is free and, where that is known, what is needed."""
        shop, order = self.shop, self.order
        said = (WRITTEN.search(line) for line in reversed(logs.tail(self.folder.log, LOOKED_AT)))
        place = next((found[1] for found in said if found), str(shop.store.layout.root))
        need = shop.space.need(order.action, order.key, {}).total if shop.space is not None else None
        error = OSError(errno.ENOSPC, os.strerror(errno.ENOSPC), place)
        told = full_failure(error, shop.store.layout.root, need)
        return replace(failure, message=told.message, hint=told.hint)

    def _step(self) -> int:
        found = self.shop.store.checkpoint(self.order.action.stage, self.order.key)
        return found[0] if found is not None else 0


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
