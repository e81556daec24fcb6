"""Removal beside runs and when it is killed: pins and locks hold it off, and the store stays whole."""

import errno
import json
import threading
import time
from dataclasses import asdict, replace
from functools import partial
from pathlib import Path

import pytest
from removal import ALL, DAY, collect, fill, key_of, on_cpu, unfinished, whole
from test_store import product

from rlhfc.store.holder import Holder
from rlhfc.store.leases import Hold, LostLockError
from rlhfc.store.pins import Pins, read_pins
from rlhfc.store.records import Acceptance, DamagedRecordError
from rlhfc.store.store import Store
from rlhfc.upkeep.inventory import take_inventory
from rlhfc.upkeep.marks import Roots, choose
from rlhfc.upkeep.sweep import sweep


def test_pin_that_cannot_be_written_ends_no_run(tmp_path, monkeypatch):
    """Neither a pin nor the lease for it fits on a full disk, and a run goes on without."""
    store = Store.create(tmp_path / "store")

    def full():
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr(store.locks, "sharing", full)
    Pins(store.layout, store.locks, Holder.me()).keep(key_of(1))
    assert [] == list(read_pins(store.layout))


def test_pins_of_the_dead_go(store):
    """The pins of a run that died keep nothing and are removed; those of the living stay."""
    pins = Pins(store.layout, store.locks, Holder.me("r"))
    pins.keep(key_of(1), ["b3:t"])
    dead = replace(Holder.me("r0"), start=1)
    text = {"holder": asdict(dead), "keys": [key_of(2)], "trees": []}
    (store.layout.pins / "dead.json").write_text(json.dumps(text))
    collect(store)
    (left,) = read_pins(store.layout)
    assert ({key_of(1)}, {"b3:t"}) == (left.keys, left.trees)
    pins.drop()
    assert [] == list(read_pins(store.layout))


def test_pins_of_another_machine_live_while_they_are_touched(store):
    """Of another machine's run nothing is known but when it last showed itself."""
    pins = Pins(store.layout, store.locks, replace(Holder.me("r"), host="elsewhere"))
    pins.keep(key_of(1))
    (pin,) = read_pins(store.layout)
    touched = pin.path.stat().st_mtime
    assert [True, False] == [pin.lives(touched + seconds) for seconds in (DAY - 60, DAY + 60)]
    pin.path.write_text("{")
    (damaged,) = read_pins(store.layout)
    assert damaged.lives(time.time())


def test_pin_waits_for_removal_to_end(store):
    """A pin is taken before a removal reads the pins, or after it has ended, and never in between."""
    pins = Pins(store.layout, store.locks, Holder.me("r"))
    thread = threading.Thread(target=pins.keep, args=(key_of(1),))
    with store.locks.alone(Holder.me()):
        thread.start()
        thread.join(0.3)
        assert [] == list(read_pins(store.layout))
    thread.join(10)
    assert [frozenset({key_of(1)})] == [pin.keys for pin in read_pins(store.layout)]


def test_action_that_a_run_is_at_stays(store):
    """Whatever its age says, an action whose lock is held is left alone."""
    folder = unfinished(store, 1 << 240)
    with store.locks.key(key_of(1 << 240), Holder.me("r"), lambda: False, lambda owner: None):
        collect(store)
    assert folder.exists()
    collect(store)
    assert not folder.exists()


def test_removal_that_lost_the_lock_stops(store, tmp_path, monkeypatch):
    """A removal that was frozen until another took over removes nothing more."""
    keys = fill(store, tmp_path, {}, {})

    def lost(hold: Hold) -> None:
        raise LostLockError("lost")

    monkeypatch.setattr(Hold, "check", lost)
    with pytest.raises(LostLockError):
        collect(store)
    assert [True, True] == [whole(store, key) for key in keys]


def test_publication_that_lost_the_lock_records_nothing(store, tmp_path, monkeypatch):
    """Who froze while it published, and was passed by a removal, may miss files: it makes no record."""

    def lost(hold: Hold) -> None:
        raise LostLockError("lost")

    monkeypatch.setattr(Hold, "check", lost)
    with pytest.raises(LostLockError):
        fill(store, tmp_path, {})
    assert store.lookup(key_of(0)) is None


def test_result_made_meanwhile_keeps_what_it_found(store, tmp_path):
    """Between looking and removing a result comes that uses a file of one that goes: the file stays."""
    keys = fill(store, tmp_path, {"files": {"f": "shared", "g": "alone"}})
    inventory = take_inventory(store.layout, ALL.old)
    new = key_of(9)
    store.publish(product(tmp_path / "later", {"h": b"shared"}, key=new))
    roots = Roots(pinned=frozenset({new}), made=tuple(store.made()))
    sweep(store, inventory, partial(choose, roots=roots, policy=ALL, cost=on_cpu), ALL.old)
    assert [False, True] == [whole(store, key) for key in (keys[0], new)]


def test_reader_that_comes_during_removal_sees_a_miss(store, tmp_path, monkeypatch):
    """Who had read the record when it was removed finds no tree: a miss, and no damage is told."""
    (key,) = fill(store, tmp_path, {})
    real = Store._read_tree

    def meanwhile(self: Store, digest: str):
        monkeypatch.setattr(Store, "_read_tree", real)
        collect(store)
        return real(self, digest)

    monkeypatch.setattr(Store, "_read_tree", meanwhile)
    assert store.lookup(key) is None


def test_accepting_what_was_removed_fails_cleanly(store, tmp_path):
    """A result that went between its finding and its acceptance is not recorded under another key."""
    (key,) = fill(store, tmp_path, {})
    result = store.lookup(key)
    collect(store)
    with pytest.raises(DamagedRecordError):
        store.accept(result, key_of(5), {}, Acceptance(key, "ada", "x", "now"), ("p", "s"))
    assert store.lookup(key_of(5)) is None


def test_only_the_result_that_was_seen_is_taken_back(store, tmp_path):
    """A forced run replaces what it found when it began, and nothing that another has made since."""
    keys = fill(store, tmp_path, {}, {})
    first, second = (store.lookup(key) for key in keys)
    store.forget(keys[0], second)
    assert first == store.lookup(keys[0])
    store.forget(keys[0], first)
    assert store.lookup(keys[0]) is None


class CrashError(Exception):
    """The process was killed here."""


def names(store: Store) -> set[str]:
    """Every file of a store's content."""
    folders = ("objects", "trees", "actions", "views")
    return {str(path) for name in folders for path in (store.layout.root / name).rglob("*") if path.is_file()}


def test_crash_at_every_step_leaves_a_whole_store(tmp_path, monkeypatch):
    """Killed before any of its renames or records, removal leaves whole results, and the next one ends it."""
    real, left = Path.rename, [0]

    def rename(path: Path, target: Path) -> Path:
        left[0] -= 1
        if left[0] < 0:
            raise CrashError
        return real(path, target)

    point = 0
    while True:
        store = Store.create(tmp_path / str(point), warn=pytest.fail)
        keys = fill(store, tmp_path / f"w{point}", *({"files": {"f": str(n), "g": "same"}} for n in range(3)))
        view = store.view(store.lookup(keys[0]).outputs["model"])
        store.view(store.lookup(keys[2]).outputs["model"])
        unfinished(store, 1 << 240)
        roots = Roots(tagged=frozenset({keys[2]}))
        monkeypatch.setattr(Path, "rename", rename)
        left[0], crashed = point, False
        try:
            collect(store, roots)
        except CrashError:
            crashed = True
        monkeypatch.setattr(Path, "rename", real)
        again = Store.open(tmp_path / str(point), warn=pytest.fail)
        assert whole(again, keys[2])
        assert all(again.lookup(key) is None or whole(again, key) for key in keys)
        collect(again, roots)
        assert [False, False, True] == [whole(again, key) for key in keys]
        assert not view.exists()
        assert 1 + 1 + 2 + 2 == len(names(again))  # record, tree, blobs, view
        assert [] == list((again.layout.root / "tmp").iterdir())
        assert 0 == collect(again, roots).size
        if not crashed:
            break
        point += 1
    assert 8 == point  # two records, a view, two trees, two blobs, an action
