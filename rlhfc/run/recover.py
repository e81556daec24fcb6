"""What dead runs left behind, dealt with before anything is launched."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

from rlhfc.run.attempt import Status, attempts, key_of, remove_outputs, settle_leftovers
from rlhfc.store.files import listed
from rlhfc.store.holder import Holder
from rlhfc.store.store import Store


def settle_store(store: Store, say: Callable[[str], None]) -> None:
    """Mark every attempt whose run died as lost and end its processes, whatever its key.

    A key that a living run holds is left alone. This pipeline's own keys are settled again when they
    are locked; the others may still occupy GPUs.
    """
    for work in listed(store.layout.root / "work"):
        key = key_of(work)
        unsettled = _unsettled(work)
        if key is None or unsettled is None:
            continue
        with store.locks.free_key(key, Holder.me()) as held:
            if held is None:
                continue
            for line in settle_leftovers(work):
                say(line)
            result = store.lookup(key)
            # An older result is one that it was to replace: its checkpoints are needed still.
            if result is not None and result.finished >= unsettled.started:
                # It died between publishing and tidying up.
                remove_outputs(work, store.layout.scratch)


def _unsettled(work: Path) -> Status | None:
    """Status of the newest attempt, when it says that it runs."""
    newest = attempts(work)[-1:]
    status = newest[0].status() if newest else None
    return status if status is not None and status.state == "running" else None
