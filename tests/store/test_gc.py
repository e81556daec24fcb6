"""Removal: what it keeps, in which order it takes the rest, and that a crash leaves a whole store."""

import errno
import json
import os
import shutil
import tempfile
import threading
import time
from dataclasses import asdict, replace
from functools import partial
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from test_store import product

from rlhfc.errors import UserError
from rlhfc.plan.estimate import taken
from rlhfc.store.holder import Holder
from rlhfc.store.leases import Hold, LostLockError
from rlhfc.store.pins import Pins, read_pins
from rlhfc.store.records import Acceptance, DamagedRecordError
from rlhfc.store.store import Store
from rlhfc.upkeep.inventory import disk_usage, take_inventory
from rlhfc.upkeep.marks import Policy, Roots, choose
from rlhfc.upkeep.quota import bytes_of, check_quota, write_quota
from rlhfc.upkeep.sweep import sweep

ALL = Policy(keep_runs=0, grace=0.0)
DAY = 24 * 3600.0


def key_of(number: int) -> str:
    """A key."""
    return f"b3:{number:064x}"


def on_cpu(key: str, seconds: float) -> tuple[float, float]:
    """What a result took, when all are made on the CPU."""
    return 0.0, seconds


def test_pin_that_cannot_be_written_ends_no_run(tmp_path, monkeypatch):
    """Neither a pin nor the lease for it fits on a full disk, and a run goes on without."""
    store = Store.create(tmp_path / "store")

    def full():
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr(store.locks, "sharing", full)
    Pins(store.layout, store.locks, Holder.me()).keep(key_of(1))
    assert [] == list(read_pins(store.layout))


def fill(store: Store, folder: Path, *results: dict) -> list[str]:
    """Publish results, oldest first: files by name, and the stage `s` of pipeline `p` unless it says so."""
    for number, facts in enumerate(results):
        files = {name: data.encode() for name, data in facts.pop("files", {"f": f"{number}"}).items()}
        work = folder / f"work{number}"
        store.publish(product(work, files, key=key_of(number), **facts))
        shutil.rmtree(work)
    return [key_of(number) for number in range(len(results))]


def whole(store: Store, key: str) -> bool:
    """Whether a result is there with every byte."""
    result = store.lookup(key)
    return result is not None and all(
        store.blob(entry.digest).stat().st_size == entry.size
        for tree in result.outputs.values()
        for entry in store.tree(tree)
    )


def collect(store: Store, roots: Roots | None = None, policy: Policy = ALL, cost=on_cpu):
    """Remove what is not kept; by default the ledger alone says what there was."""
    given = roots or Roots()
    roots = replace(given, made=given.made or tuple(store.made()))
    inventory = take_inventory(store.layout, policy.old)
    return sweep(store, inventory, partial(choose, roots=roots, policy=policy, cost=cost), policy.old)


def names(store: Store) -> set[str]:
    """Every file of a store's content."""
    folders = ("objects", "trees", "actions", "views")
    return {str(path) for name in folders for path in (store.layout.root / name).rglob("*") if path.is_file()}


@pytest.fixture
def store(tmp_path):
    """A store whose warnings fail the test."""
    return Store.create(tmp_path / "store", warn=pytest.fail)


def test_newest_results_of_each_stage_stay(store, tmp_path):
    """Of each stage of each pipeline the newest stay; with a result go its files and its view."""
    keys = fill(store, tmp_path, {}, {}, {"stage": "t"}, {"pipeline": "q"}, {})
    views = [store.view(store.lookup(key).outputs["model"]) for key in keys]
    removal = collect(store, policy=replace(ALL, keep_runs=1))
    assert [False, False, True, True, True] == [whole(store, key) for key in keys]
    assert [False, False, True, True, True] == [view.exists() for view in views]
    assert ({keys[0], keys[1]}, 3) == ({each.key for each in removal.chosen}, removal.kept)
    assert [keys[:2]] == [sorted(e["keys"]) for e in store.ledger.read() if e["event"] == "collected"]
    assert store.key_document(keys[0]) is not None


@pytest.mark.parametrize("root", ["planned", "tagged", "pinned"])
def test_roots_stay_whatever_their_age(store, tmp_path, root):
    """A key that a kept spec, a tag or a living run names keeps its result."""
    keys = fill(store, tmp_path, {}, {}, {})
    collect(store, Roots(**{root: frozenset({keys[0]})}))
    assert [True, False, False] == [whole(store, key) for key in keys]


def test_pinned_trees_stay_without_their_record(store, tmp_path):
    """A run reads what it found, also when another has replaced the result since."""
    (key,) = fill(store, tmp_path, {})
    result = store.lookup(key)
    view = store.view(result.outputs["model"])
    store.forget(key, result)
    collect(store, Roots(trees=frozenset(result.outputs.values())))
    assert "0" == (view / "f").read_text()
    collect(store)
    assert not view.exists()


def test_young_results_stay(store, tmp_path):
    """What was made within the grace period stays; a clock that a machine had wrong ages nothing else."""
    keys = fill(store, tmp_path, {}, {}, {})
    now = time.time()
    os.utime(store.layout.action(keys[0]), (now - 3 * DAY, now - 3 * DAY))
    os.utime(store.layout.action(keys[1]), (now + 999 * DAY, now + 999 * DAY))
    collect(store, policy=replace(ALL, grace=DAY))
    assert [False, True, True] == [whole(store, key) for key in keys]


def test_what_the_ledger_does_not_know_stays(store, tmp_path):
    """A ledger that is gone takes no result with it."""
    keys = fill(store, tmp_path, {}, {})
    store.layout.ledger.unlink()
    assert (2, 2) == ((removal := collect(store)).kept, removal.unlisted)
    assert [True, True] == [whole(store, key) for key in keys]


def test_shared_files_stay_with_who_needs_them(store, tmp_path):
    """A file that a kept result shares with one that goes stays; the sum counts what is really free."""
    big = "x" * 100_000
    keys = fill(store, tmp_path, {"files": {"f": big, "g": "y" * 50_000}}, {"files": {"h": big}})
    before = disk_usage(store.layout)
    removal = collect(store, Roots(tagged=frozenset({keys[1]})))
    assert [False, True] == [whole(store, key) for key in keys]
    assert 50_000 <= removal.size < 60_000
    assert removal.size <= before - disk_usage(store.layout) < removal.size + 20_000


def test_file_that_lies_elsewhere_too_frees_nothing(store, tmp_path):
    """A blob with a name outside of the store is not counted as freed; views are names inside."""
    (key,) = fill(store, tmp_path, {"files": {"f": "x" * 100_000, "g": "y" * 200_000}})
    view = store.view(store.lookup(key).outputs["model"])
    os.link(view / "g", tmp_path / "mine")
    assert 100_000 <= collect(store).size < 150_000


def test_cheapest_to_make_again_goes_first(store, tmp_path):
    """Asked for so many bytes, removal takes what needs no GPU, then most bytes for a GPU-hour."""
    sizes = [100_000, 100_000, 300_000, 100_000]
    costs = {
        key_of(0): (7200.0, 0.0),
        key_of(1): (0.0, 9000.0),
        key_of(2): (7200.0, 0.0),
        key_of(3): (3600.0, 0.0),
    }
    keys = fill(store, tmp_path, *({"files": {"f": str(n) * size}} for n, size in enumerate(sizes)))
    order = []
    for _ in keys:
        removal = collect(store, policy=replace(ALL, free=1), cost=lambda key, seconds: costs[key])
        order += [each.key for each in removal.chosen]
    assert [keys[1], keys[2], keys[3], keys[0]] == order
    assert 0 == collect(store).size


def test_no_more_goes_than_is_asked_for(store, tmp_path):
    """`--free` stops as soon as so much is free, and never takes what is kept."""
    keys = fill(store, tmp_path, *({"files": {"f": str(n) * 100_000}} for n in range(4)))
    kept = Roots(tagged=frozenset({keys[3]}))
    removal = collect(store, kept, replace(ALL, free=150_000))
    assert (2, 2) == (len(removal.chosen), sum(whole(store, key) for key in keys))
    short = collect(store, kept, replace(ALL, free=10**9))
    assert 100_000 <= short.size < 10**9
    assert whole(store, keys[3])


def unfinished(store: Store, number: int, stage: str = "s", days: float = 9.0) -> Path:
    """The folder of an action that has a checkpoint and no result."""
    folder = store.work(stage, key_of(number))
    (folder / "attempts" / "001" / "checkpoints").mkdir(parents=True)
    (folder / "attempts" / "001" / "checkpoints" / "state").write_bytes(b"x" * 10_000)
    owner = {"key": key_of(number), "pipeline": "p", "stage": stage}
    (folder / "key.json").write_text(json.dumps(owner))
    then = time.time() - days * DAY
    for path in (*folder.rglob("*"), folder):
        os.utime(path, (then, then))
    return folder


def test_unfinished_actions(store):
    """Checkpoints stay when they are young, of a kept spec, or the newest of their stage; else they go."""
    old, newest = unfinished(store, 0x1 << 240), unfinished(store, 0x2 << 240, days=2)
    other = unfinished(store, 0x3 << 240, stage="t", days=99)
    policy = replace(ALL, keep_runs=1, grace=DAY)
    collect(store, policy=policy)
    assert [False, True, True] == [path.exists() for path in (old, newest, other)]
    collect(store, Roots(planned=frozenset({key_of(0x3 << 240)})), replace(policy, keep_runs=0))
    assert [False, True] == [path.exists() for path in (newest, other)]


def test_action_that_a_run_is_at_stays(store):
    """Whatever its age says, an action whose lock is held is left alone."""
    folder = unfinished(store, 1 << 240)
    with store.locks.key(key_of(1 << 240), Holder.me("r"), lambda: False, lambda owner: None):
        collect(store)
    assert folder.exists()
    collect(store)
    assert not folder.exists()


def test_earlier_attempts_of_a_result_go_when_they_are_old(store, tmp_path):
    """Of a result that stays, the newest attempt's log stays, and those that are not old."""
    (key,) = fill(store, tmp_path, {})
    folder = unfinished(store, 0, days=0)
    for name in ("002", "003"):
        (folder / "attempts" / name).mkdir()
    then = time.time() - 40 * DAY
    for path in (folder / "attempts" / "001").rglob("*"):
        os.utime(path, (then, then))
    os.utime(folder / "attempts" / "001", (then, then))
    collect(store, Roots(tagged=frozenset({key})))
    assert ["002", "003"] == sorted(path.name for path in (folder / "attempts").iterdir())


def test_rubbish_goes(store):
    """Drafts of the dead, graves of a removal that crashed, and old quarantine go; young drafts stay."""
    root = store.layout.root
    (root / "tmp" / "gc-9-x").mkdir()
    (root / "tmp" / "gc-9-x" / "1").write_text("x")
    (root / "tmp" / "young").write_text("x")
    (root / "quarantine" / "20200101").mkdir(parents=True)
    collect(store)
    assert ["young"] == [path.name for path in (root / "tmp").iterdir()]
    assert (root / "quarantine" / "20200101").exists()  # by its change time, which cannot be set, it is young
    collect(store, policy=replace(ALL, old=0.0))
    assert not (root / "quarantine" / "20200101").exists()


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


class CrashError(Exception):
    """The process was killed here."""


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


def test_removal_that_lost_the_lock_stops(store, tmp_path, monkeypatch):
    """A removal that was frozen until another took over removes nothing more."""
    keys = fill(store, tmp_path, {}, {})

    def lost(hold: Hold) -> None:
        raise LostLockError("lost")

    monkeypatch.setattr(Hold, "check", lost)
    with pytest.raises(LostLockError):
        collect(store)
    assert [True, True] == [whole(store, key) for key in keys]


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


RESULTS = st.lists(
    st.tuples(st.sampled_from("st"), st.lists(st.integers(0, 5), min_size=1, max_size=3), st.booleans()),
    min_size=1,
    max_size=6,
)


@settings(max_examples=25, deadline=None)
@given(
    RESULTS,
    st.integers(0, 2),
    st.sets(st.integers(0, 5)),
    st.sets(st.integers(0, 5)),
    st.none() | st.integers(0, 9000),
)
def test_nothing_reachable_is_ever_removed(results, keep_runs, tagged, pinned, free):
    """Whatever the results share and whatever is kept: roots stay whole, the rest goes with every file."""
    with tempfile.TemporaryDirectory() as folder:
        store = Store.create(Path(folder) / "store", warn=pytest.fail)
        facts = [
            {"stage": stage, "files": {f"f{n}": str(n) * 999 for n in held}} for stage, held, _ in results
        ]
        keys = fill(store, Path(folder), *facts)
        for key, (_, _, viewed) in zip(keys, results, strict=True):
            if viewed:
                store.view(store.lookup(key).outputs["model"])
        stages = {
            stage: [k for k, (s, *_) in zip(keys, results, strict=True) if s == stage] for stage in "st"
        }
        kept = {key for found in stages.values() for key in found[len(found) - min(keep_runs, len(found)) :]}
        kept |= {keys[n] for n in tagged | pinned if n < len(keys)}
        roots = Roots(
            tagged=frozenset(keys[n] for n in tagged if n < len(keys)),
            pinned=frozenset(keys[n] for n in pinned if n < len(keys)),
        )
        removal = collect(store, roots, Policy(keep_runs=keep_runs, grace=0.0, free=free))
        assert kept <= {key for key in keys if whole(store, key)}
        gone = {each.key for each in removal.chosen}
        assert [key not in gone for key in keys] == [whole(store, key) for key in keys]
        if free is None:
            assert {*keys} - kept == gone
        trees = {tree for key in keys if key not in gone for tree in store.lookup(key).outputs.values()}
        blobs = {entry.digest for tree in trees for entry in store.tree(tree)}
        metrics = {store.lookup(key).metrics for key in keys if key not in gone} - {None}
        left = take_inventory(store.layout, DAY)
        assert (trees, blobs | metrics) == ({*left.trees}, {*left.blobs})
        assert {*left.views} <= trees
        assert 0 == collect(store, roots, Policy(keep_runs=keep_runs, grace=0.0, free=0)).size


@pytest.mark.parametrize(
    ("text", "size"),
    [("500MB", 500 * 10**6), ("1.5 TB", 1_500_000_000_000), ("2GiB", 2 << 30), ("7", 7), ("3k", 3000)],
)
def test_sizes(text, size):
    """Sizes are read in the units that people write."""
    assert size == bytes_of("--free", text)


def test_no_size():
    """What is no size is refused by the option's name."""
    with pytest.raises(UserError, match="`--free much` is no size"):
        bytes_of("--free", "much")


def test_quota(store, tmp_path):
    """A store at its limit refuses, one that will be exceeded warns, both with the remedy."""
    fill(store, tmp_path, {"files": {"f": "x" * 3_000_000}})
    assert check_quota(store.layout, 10**12) is None
    write_quota(store.layout, 10 * 10**6)
    assert check_quota(store.layout, 10**6) is None
    warning = check_quota(store.layout, 9 * 10**6)
    assert "of 10.0 MB, and about 9.0 MB will come: make room with `rlhfc gc --free 3MB`" in warning
    write_quota(store.layout, 10**6)
    with pytest.raises(UserError, match=r"is full: 3\.0 MB of 1\.0 MB"):
        check_quota(store.layout, 0)
    write_quota(store.layout, None)
    assert check_quota(store.layout, 10**12) is None


def test_publication_that_lost_the_lock_records_nothing(store, tmp_path, monkeypatch):
    """Who froze while it published, and was passed by a removal, may miss files: it makes no record."""

    def lost(hold: Hold) -> None:
        raise LostLockError("lost")

    monkeypatch.setattr(Hold, "check", lost)
    with pytest.raises(LostLockError):
        fill(store, tmp_path, {})
    assert store.lookup(key_of(0)) is None


def test_only_the_result_that_was_seen_is_taken_back(store, tmp_path):
    """A forced run replaces what it found when it began, and nothing that another has made since."""
    keys = fill(store, tmp_path, {}, {})
    first, second = (store.lookup(key) for key in keys)
    store.forget(keys[0], second)
    assert first == store.lookup(keys[0])
    store.forget(keys[0], first)
    assert store.lookup(keys[0]) is None


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


@pytest.mark.parametrize(
    ("recorded", "cost"),
    [
        ({"params.device": "gpu", "params.ranks": 4}, (40.0, 0.0)),
        ({"params.device": "cpu", "params.ranks": 4}, (0.0, 10.0)),
        ({}, (0.0, 10.0)),
    ],
)
def test_what_a_result_took(recorded, cost):
    """GPU-seconds are wall seconds times ranks; what is not known to have had GPUs had none."""
    assert cost == taken({"document": {"config": {"params": {}}}, "recorded": recorded}, 10.0)
    assert (0.0, 10.0) == taken({"document": {"kind": "toy"}}, 10.0) == taken(None, 10.0)
