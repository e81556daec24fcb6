"""Removal: records first, then what only they referred to. A crash at any point leaves a whole store.

Under the store's lock nothing is deleted, only renamed out of sight, so that runs wait but a moment.
What a crash leaves in the grave, the next removal finds there; what it leaves in place is referred to
by nothing, and the next removal finds that too.
"""

from __future__ import annotations

import shutil
from collections.abc import Callable, Iterable
from contextlib import suppress
from pathlib import Path

from rlhfc.store import files
from rlhfc.store.holder import Holder
from rlhfc.store.leases import Hold
from rlhfc.store.pins import read_pins
from rlhfc.store.store import Store
from rlhfc.upkeep.inventory import GRAVE, Inventory, file_system_now, look_again
from rlhfc.upkeep.marks import Candidate, Removal

CHECKED_EVERY = 32  # removals, between two looks whether the lock is still ours


def sweep(store: Store, before: Inventory, choose: Callable[[Inventory], Removal], old: float) -> Removal:
    """Remove what is chosen of the store as it is now.

    Args:
        store: to remove from.
        before: taken a moment ago; what has come since stays.
        choose: called under the lock with the records of now.
        old: seconds after which the earlier attempts of a result go.

    Raises:
        LostLockError: this process was frozen while it was at it; what is left goes next time.
    """
    mine, grave = Holder.me(), store.layout.scratch / f"{GRAVE}{files.unique_name()}"
    with store.locks.alone(mine) as hold:
        inventory = look_again(before, store.layout)
        removal = choose(inventory)
        grave.mkdir()
        sweeper = _Sweeper(store, hold, grave, mine)
        sweeper.forget(removal.chosen)
        sweeper.bury(store.layout.view(tree) for tree in removal.views)
        sweeper.bury(store.layout.tree(tree) for tree in removal.trees)
        sweeper.bury(store.layout.blob(blob) for blob in removal.blobs)
        for candidate in removal.chosen:
            if candidate.work is not None:
                sweeper.bury_work(candidate.key, [candidate.work.folder])
        for work in removal.attempts:
            sweeper.bury_work(work.key, [folder for folder, _, age in work.earlier if age > old])
        now = file_system_now(store.layout)
        sweeper.bury(pin.path for pin in read_pins(store.layout) if not pin.lives(now))
        sweeper.bury(inventory.rubbish)
    shutil.rmtree(grave, ignore_errors=True)
    return removal


class _Sweeper:
    def __init__(self, store: Store, hold: Hold, grave: Path, mine: Holder) -> None:
        self._store, self._hold, self._grave, self._mine = store, hold, grave, mine
        self._count = 0

    def forget(self, chosen: Iterable[Candidate]) -> None:
        """Remove records, durably: from now on nothing says that their parts are there."""
        gone = [candidate for candidate in chosen if candidate.result is not None]
        self.bury(self._store.layout.action(candidate.key) for candidate in gone)
        files.sync_folders(self._store.layout.action(candidate.key).parent for candidate in gone)
        if gone:
            self._store.ledger.append("collected", keys=[candidate.key for candidate in gone])

    def bury(self, paths: Iterable[Path]) -> None:
        """Take names away."""
        for path in paths:
            if self._count % CHECKED_EVERY == 0:
                self._hold.check()
            with suppress(FileNotFoundError):
                path.rename(self._grave / str(self._count))
            self._count += 1

    def bury_work(self, key: str, folders: Iterable[Path]) -> None:
        """Take folders of an action away, unless a run is at it."""
        with self._store.locks.free_key(key, self._mine) as held:
            if held is not None:
                self.bury(folders)
