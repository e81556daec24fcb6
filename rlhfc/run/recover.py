"""What dead runs left behind, dealt with before anything is launched."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

from rlhfc.run.attempt import attempts, key_of, remove_outputs, settle_leftovers
from rlhfc.store.holder import Holder
from rlhfc.store.store import Store


def settle_store(store: Store, say: Callable[[str], None]) -> None:
    """Mark every attempt whose run died as lost and end its processes, whatever its key.

    A key that a living run holds is left alone. This pipeline's own keys are settled again when they
    are locked; the others may still occupy GPUs.
    """
    folder = store.layout.root / "work"
    for work in sorted(folder.iterdir()) if folder.is_dir() else []:
        key = key_of(work)
        if key is None or not _unsettled(work):
            continue
        with store.locks.free_key(key, Holder.me()) as held:
            if held is None:
                continue
            for line in settle_leftovers(work):
                say(line)
            if store.lookup(key) is not None:  # it died between publishing and tidying up
                remove_outputs(work, store.layout.scratch)


def _unsettled(work: Path) -> bool:
    newest = attempts(work)[-1:]
    return any(status is not None and status.state == "running" for status in (a.status() for a in newest))
