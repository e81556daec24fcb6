"""Restoring one stage from the shared store: lock its key, look again, fetch, publish. No slot is taken."""

from __future__ import annotations

from rlhfc.compile.action import Action
from rlhfc.plan.verdict import StagePlan
from rlhfc.remote.pull import GivenUpError
from rlhfc.remote.source import Source
from rlhfc.run.outcome import Failure, StageOutcome, State
from rlhfc.run.shop import Workshop
from rlhfc.store.holder import Holder
from rlhfc.store.locks import StoppedError


def restore(shop: Workshop, source: Source, action: Action, planned: StagePlan) -> StageOutcome | None:
    """Bring one action's result into the store; None when it cannot be had after all. Runs in a thread.

    Args:
        shop: what all stages of the run share.
        source: has the result.
        action: the stage.
        planned: names the result's key.
    """
    assert planned.key is not None
    key, store, stopping = planned.key, shop.store, shop.control.stopping

    def wait(owner: str) -> None:
        shop.board.change(action.stage, state=State.QUEUED, detail=f"waits for {owner}")

    try:
        with store.locks.key(key, Holder.me(shop.run), stopping, wait):
            result = store.lookup(key)
            if result is not None:
                return StageOutcome(action.stage, action.kind.name, State.CACHED, key, result=result)
            shop.board.change(action.stage, state=State.QUEUED, detail=f"from {source.name}")
            result = source.restore(store, key, action.kind.outputs, stopping)
    except (StoppedError, GivenUpError):
        return StageOutcome(action.stage, action.kind.name, State.WAITING, key)
    except OSError as error:  # of our own store; what the shared one refuses is told and passed over
        place = f": `{error.filename}`" if error.filename else ""
        failure = Failure(f"it could not be restored: {error.strerror or error}{place}")
        return StageOutcome(action.stage, action.kind.name, State.FAILED, key, failure=failure)
    if result is None:
        return None
    return StageOutcome(action.stage, action.kind.name, State.RESTORED, key, result=result)
