"""Removal: what it keeps, and in which order it takes the rest."""

import os
import tempfile
import time
from dataclasses import replace
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from removal import ALL, DAY, collect, fill, key_of, unfinished, whole

from rlhfc.plan.estimate import taken
from rlhfc.store.store import Store
from rlhfc.upkeep.inventory import disk_usage, take_inventory
from rlhfc.upkeep.marks import Policy, Roots


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


def test_unfinished_actions(store):
    """Checkpoints stay when they are young, of a kept spec, or the newest of their stage; else they go."""
    old, newest = unfinished(store, 0x1 << 240), unfinished(store, 0x2 << 240, days=2)
    other = unfinished(store, 0x3 << 240, stage="t", days=99)
    policy = replace(ALL, keep_runs=1, grace=DAY)
    collect(store, policy=policy)
    assert [False, True, True] == [path.exists() for path in (old, newest, other)]
    collect(store, Roots(planned=frozenset({key_of(0x3 << 240)})), replace(policy, keep_runs=0))
    assert [False, True] == [path.exists() for path in (newest, other)]


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
