"""What is looked at may be gone a moment later: another gc, a repair or a run was quicker."""

import itertools
import json
import os
import shutil
from collections.abc import Callable
from pathlib import Path

import pytest
from test_store import product

from rlhfc.run.recover import settle_store
from rlhfc.store.store import Store
from rlhfc.upkeep import fsck as module
from rlhfc.upkeep.fsck import fsck
from rlhfc.upkeep.inventory import look_again, take_inventory

KEY = f"b3:{1:064x}"
LOOKS = {
    "gc": lambda store: look_again(take_inventory(store.layout, 0.0), store.layout),
    "fsck": lambda store: fsck(store.layout.root, quick=False, repair=False, tell=lambda files, size: None),
    "repair": lambda store: fsck(store.layout.root, quick=False, repair=True, tell=lambda files, size: None),
    "run": lambda store: settle_store(store, lambda text: None),
}


def furnish(root: Path) -> None:
    """A store with something of each sort, drafts of last year included."""
    store = Store.create(root)
    store.publish(product(root.parent / "made", {"f": b"1"}, key=KEY))
    store.view(store.lookup(KEY).outputs["model"])
    work = root / "work" / "s-000000000000"
    attempt = work / "attempts" / "001"
    (attempt / "checkpoints" / "step-000001").mkdir(parents=True)
    (attempt / "log").write_text("said")
    (work / "key.json").write_text(json.dumps({"key": KEY, "pipeline": "p", "stage": "s"}))
    (root / "quarantine" / "then").mkdir(parents=True)
    (root / "objects" / "00").mkdir()  # a blob that no result needs
    (root / "objects" / "00" / ("0" * 62)).write_text("other bytes")
    for name in ("work/s-000000000000/.log.1-1", "trees/.x.2-2", "tmp/draft", "quarantine/then/file"):
        (root / name).write_text("left")
        os.utime(root / name, (0, 0))


class Entries(list):
    """What `os.scandir` has found."""

    def __enter__(self):
        return self

    def __exit__(self, *_):
        """Nothing is open."""


class Vanishing:
    """Lists folders as the system does; after the N-th listing in a store, all that it named is gone."""

    def __init__(self, root: Path, number: int, patched: pytest.MonkeyPatch) -> None:
        self.root, self.number, self.seen, self.names = root, number, 0, os.listdir
        patched.setattr(os, "listdir", self.around(os.listdir, list))
        patched.setattr(os, "scandir", self.around(os.scandir, Entries))

    def around(self, call: Callable, found: Callable) -> Callable:
        """The call, and what happens after it."""

        def listing(path="."):
            if isinstance(path, int):  # removal, ours too
                return call(path)
            answer = found(call(path))
            if Path(path).is_relative_to(self.root):
                self.seen += 1
                if self.seen == self.number:
                    self.take([Path(path) / name for name in self.names(path)])
            return answer

        return listing

    def take(self, paths: list[Path]) -> None:
        """Remove them."""
        for path in paths:
            shutil.rmtree(path) if path.is_dir() else path.unlink()


@pytest.mark.parametrize("what", LOOKS)
def test_whatever_vanishes_after_a_look_is_passed_over(tmp_path, monkeypatch, what):
    """All that a listing names goes before anybody follows it up, for each listing in turn."""
    monkeypatch.setattr(module, "AGAIN_SECONDS", 0.0)
    furnish(tmp_path / "full" / "store")
    root = tmp_path / "store"
    for number in itertools.count(1):
        shutil.rmtree(root, ignore_errors=True)
        shutil.copytree(tmp_path / "full" / "store", root, symlinks=True)
        store = Store.open(root)
        with monkeypatch.context() as patched:
            vanishing = Vanishing(root, number, patched)
            LOOKS[what](store)
        if vanishing.seen < number:
            break
    assert number > {"gc": 15, "fsck": 10, "repair": 10, "run": 2}[what]
