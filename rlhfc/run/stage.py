"""One stage of a run: lock its key, look again, launch until it is done or hopeless, publish."""

from __future__ import annotations

import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager, suppress
from typing import Any

from rlhfc.compile.action import Action
from rlhfc.compile.batch import with_sizes
from rlhfc.plan.quantities import duration
from rlhfc.run.attempt import Status, attempts_since_done, remove_outputs, settle_leftovers
from rlhfc.run.fault import Fault
from rlhfc.run.inputs import DownloadError, Inputs, Outputs, changed_code, changed_input, materialise
from rlhfc.run.judge import StageFailedError
from rlhfc.run.launch import AttemptRun, Order
from rlhfc.run.outcome import Failure, StageOutcome
from rlhfc.run.outcome import State as StageState
from rlhfc.run.retry import OF_THE_MACHINE, Again, adjusted, next_launch, refusal
from rlhfc.run.shop import Workshop
from rlhfc.run.slots import Grant, need_of
from rlhfc.run.space import full_failure, is_full
from rlhfc.run.summary import adjusted_words
from rlhfc.run.verify import Manifest
from rlhfc.store.holder import Holder
from rlhfc.store.leases import Hold, LostLockError
from rlhfc.store.locks import StoppedError
from rlhfc.store.publish import Product
from rlhfc.store.records import ActionResult, DamagedRecordError


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
        self.before: ActionResult | None = None
        self.hold = Hold()
        self.attempt: AttemptRun | None = None
        self.began = 0.0  # the first launch; where there is none it counts for nothing
        self.faults: list[Fault] = []

    def perform(self) -> StageOutcome:
        """Do it; what goes wrong is in the outcome.

        Raises:
            Exception: a mistake of ours.
        """
        shop = self.shop
        try:
            holder, stopping = Holder.me(shop.run), shop.control.stopping
            with shop.store.locks.key(self.key, holder, stopping, self._announce_wait) as self.hold:
                self.before = shop.store.record(self.key)
                result = None if self._replaces else shop.store.lookup(self.key)
                if result is not None:  # another run has made it meanwhile
                    return self._outcome(StageState.CACHED, result=result)
                for line in settle_leftovers(self.work):
                    shop.board.say(line)
                result = self._launch_until_done()
                shop.made.add(self.key)
            return self._outcome(StageState.DONE, result=result)
        except StoppedError:
            return self._outcome(StageState.WAITING)
        except StageFailedError as failed:
            state = StageState.INTERRUPTED if failed.state == "interrupted" else StageState.FAILED
            return self._outcome(state, failure=failed.failure)
        except DownloadError as error:
            return self._outcome(StageState.FAILED, failure=Failure(str(error), error.hint))
        except LostLockError as lost:
            hint = "run the same command again: it takes the result of the other, or goes on"
            return self._outcome(StageState.FAILED, failure=Failure(str(lost), hint))
        except DamagedRecordError as damage:
            hint = "run the same command again: what is damaged is made anew"
            return self._outcome(StageState.FAILED, failure=Failure(f"an input is damaged: {damage}", hint))
        except OSError as error:
            return self._outcome(StageState.FAILED, failure=self._disk_failure(error))

    @property
    def _replaces(self) -> bool:
        """Whether the result that is there is to be replaced, once it has been made anew."""
        if self.force and self.key not in self.shop.made:
            return True
        there = self.shop.store.lookup(self.key)
        return there is not None and bool(self.action.lacking(there.outputs))

    def _launch_until_done(self) -> ActionResult:
        """Launch, and again after a fault that a further launch may get over.

        Raises:
            StageFailedError: the last launch did not end well.
            StoppedError: the run is stopping.
        """
        action, shop = self._as_it_fitted(), self.shop
        while True:
            self._refuse_hopeless(action)
            shop.board.change(action.stage, state=StageState.QUEUED, detail="waits for a slot")
            with shop.slots.held(need_of(action), shop.control.stopping) as grant:
                if grant is None:
                    raise StoppedError
                try:
                    return self._attempt(grant, action)
                except StageFailedError as failed:
                    again = self._again(failed, action)
                    if again is None:
                        raise
            action = again.action
            self._wait(again)

    def _again(self, failed: StageFailedError, action: Action) -> Again | None:
        """What to launch after a failure, said and noted; None when that is the end of it."""
        if failed.fault is None or self.shop.control.stopping():
            return None
        retried = sum(fault in OF_THE_MACHINE for fault in self.faults)
        again = next_launch(failed.fault, action, retried)
        if again is None or (failed.fault in OF_THE_MACHINE and refusal(action.stage, self._tried())):
            return None
        assert self.attempt is not None
        self.faults.append(failed.fault)
        self.shop.store.ledger.append(
            "retried",
            run=self.shop.run,
            pipeline=action.pipeline,
            stage=action.stage,
            key=self.key,
            attempt=self.attempt.folder.number,
            fault=str(failed.fault),
            reason=failed.failure.message,
            pause=round(again.pause, 3),
            adjusted=adjusted(self.action, again.action),
        )
        when = f"in {duration(again.pause)}" if again.pause else "now"
        what = f" with {again.words}" if again.words else ""
        self.shop.board.say(f"{action.stage}: {failed.failure.message}; launching it again {when}{what}")
        return again

    def _wait(self, again: Again) -> None:
        """Pause; StageFailedError when the run is stopping meanwhile."""
        if again.pause:
            detail = f"pauses for {duration(again.pause)} before its next launch"
            self.shop.board.change(self.action.stage, state=StageState.QUEUED, detail=detail)
            self.shop.control.pause(again.pause)
        if self.shop.control.stopping():
            raise StageFailedError("interrupted", Failure("stopped before it was launched again"))

    def _as_it_fitted(self) -> Action:
        """The action, with the smaller micro-batch that its last launch had come to, if it had."""
        tried = attempts_since_done(self.work)
        sizes = tried[-1].adjusted if tried else {}
        action = with_sizes(self.action, sizes)
        if words := adjusted_words(adjusted(self.action, action)):
            self.shop.board.say(f"{action.stage}: goes on with {words}, which fitted into memory")
        return action

    def _refuse_hopeless(self, action: Action) -> None:
        """Raise StageFailedError for a launch that is known to fail: in vain before, or without space."""
        failure = refusal(action.stage, self._tried())
        if failure is None and self.shop.space is not None:
            failure = self.shop.space.refusal(action, self.key, self.outputs)
        if failure is not None:
            raise StageFailedError("failed", failure)

    def _tried(self) -> list[Status]:
        """Attempts that one result takes; who forces a stage starts counting anew."""
        tried = attempts_since_done(self.work)
        return [status for status in tried if status.run == self.shop.run] if self.force else tried

    def _attempt(self, grant: Grant, action: Action) -> ActionResult:
        """Launch, wait, judge, publish.

        Raises:
            StageFailedError: it did not end well.
        """
        shop = self.shop
        inputs = materialise(action, self.outputs, shop.store)
        changes = adjusted(self.action, action)
        recorded = self.document["recorded"] | {f"params.{name}": value for name, value in changes.items()}
        document = {**self.document, "recorded": recorded}
        attempt = AttemptRun(shop, Order(action, self.key, document, inputs, grant, changes), self.hold)
        if self.attempt is None:
            self.began = attempt.began
        self.attempt = attempt
        with self._settled(attempt):
            manifest = attempt.run()
            self._check_inputs(inputs)
            self.hold.check()
            result = self._publish(attempt, manifest)
        with suppress(OSError):  # the result is there; what stays behind, a later run clears away
            remove_outputs(self.work, shop.store.layout.scratch, attempt.folder.number)
            # The status comes last: what a crash before it leaves behind is known by it.
            attempt.done()
        return result

    @contextmanager
    def _settled(self, attempt: AttemptRun) -> Iterator[None]:
        """Have the attempt's status say how it ended, whatever goes wrong.

        Not where the lock is lost: whoever has it now says so, or the next who gets it.
        """
        try:
            yield
        except StageFailedError as failed:
            attempt.settle(failed)
            raise
        except OSError as error:
            fault = Fault.DISK if is_full(error) else Fault.STAGE
            told = StageFailedError("failed", self._disk_failure(error), fault)
            attempt.settle(told)
            raise told from error

    def _check_inputs(self, inputs: Inputs) -> None:
        address = changed_input(self.action, inputs, self.shop.digests)
        file = changed_code(self.action, self.shop.digests)
        what = f"input `{address}`" if address is not None else f"code `{file}`"
        if address is not None or file is not None:
            failure = Failure(
                f"its {what} changed while it ran, so its outputs belong to neither version",
                "leave the files alone and run the same command again",
            )
            raise StageFailedError("failed", failure, Fault.USER)

    def _publish(self, attempt: AttemptRun, manifest: Manifest) -> ActionResult:
        tried = attempts_since_done(self.work)
        product = Product(
            run=self.shop.run,
            pipeline=self.action.pipeline,
            stage=self.action.stage,
            key=self.key,
            document=attempt.order.document,
            ports=attempt.paths.outputs,
            metrics=attempt.paths.metrics,
            summary=manifest.summary,
            seconds=sum(found.seconds for found in tried) + attempt.status.seconds,
            attempts=len(tried),
            inputs=attempt.order.inputs.trees,
            adjusted=attempt.order.adjusted,
        )
        if self._replaces:
            # Not before: a stage that fails must not cost its last result.
            self.shop.store.forget(self.key, self.before)
        return self.shop.store.publish(product)

    def _disk_failure(self, error: OSError) -> Failure:
        if is_full(error):
            return full_failure(error, self.shop.store.layout.root)
        return Failure(f"{error.strerror or error}: `{error.filename}`" if error.filename else str(error))

    def _outcome(
        self, state: StageState, result: ActionResult | None = None, failure: Failure | None = None
    ) -> StageOutcome:
        checkpoint = None
        with suppress(OSError):  # where everything fails, the first failure is the one to tell
            checkpoint = None if result else self.shop.store.checkpoint(self.action.stage, self.key)
        attempt = self.attempt
        return StageOutcome(
            stage=self.action.stage,
            kind=self.action.kind.name,
            state=state,
            key=self.key,
            seconds=time.monotonic() - self.began if attempt is not None else 0.0,
            attempt=attempt.folder.number if attempt is not None else None,
            result=result,
            failure=failure,
            checkpoint=checkpoint,
            faults=tuple(map(str, self.faults)),
            adjusted=attempt.order.adjusted if attempt is not None else {},
        )

    def _announce_wait(self, owner: str) -> None:
        stage, board = self.action.stage, self.shop.board
        board.change(stage, state=StageState.QUEUED, detail="another run is making it")
        board.say(f"{stage}: waits for {owner}, which is making it")
