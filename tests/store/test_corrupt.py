"""T-CORRUPT: whatever file of a store is damaged, it is found, repaired, and never served."""

import shutil
from dataclasses import dataclass
from pathlib import Path

import pytest
from damage import ALONE, rot, swap
from workshop import Bench

from rlhfc.cli.main import main
from rlhfc.store.digest import bytes_digest
from rlhfc.upkeep.findings import Grade
from rlhfc.upkeep.fsck import fsck

KEY = "b3:" + "d" * 64
RIGHT = {"a": "1()", "b": "2(1())"}


@dataclass(frozen=True)
class Target:
    """A kind of file: where the first and the second of it lie, and what is found when it is damaged."""

    glob: str
    content: str | None
    deleted: str | None = None
    swapped: str | None = None


TARGETS = {
    "version": Target("VERSION", "version_damaged", "version_damaged"),
    "blob": Target("objects/*/*", "blob_damaged", "record_incomplete", "blob_damaged"),
    "tree": Target("trees/*/*.json", "tree_damaged", "record_incomplete", "tree_damaged"),
    "record": Target("actions/*/*.json", "record_damaged", "result_gone", "record_damaged"),
    "key document": Target("keydocs/*/*.json", "document_damaged", "document_missing", "document_damaged"),
    "view": Target("views/*/data.txt", "view_differs", "view_differs", "view_differs"),
    "owner": Target("work/*/key.json", "work_damaged", None, "work_damaged"),
    "status": Target("work/*/attempts/001/status.json", "work_damaged", None, "work_damaged"),
    "config": Target("work/*/attempts/001/config.json", "work_damaged", None, "work_damaged"),
    "log": Target("work/*/attempts/001/log", None),
    "metrics": Target("work/*/attempts/*/metrics.jsonl", None),
    "checkpoint": Target(
        "work/*/attempts/*/checkpoints/*/state",
        "checkpoint_damaged",
        "checkpoint_damaged",
        "checkpoint_damaged",
    ),
    "manifest of a checkpoint": Target(
        "work/*/attempts/*/checkpoints/*/COMPLETE.json",
        "checkpoint_damaged",
        "checkpoint_unfinished",
        "checkpoint_damaged",
    ),
    "ledger": Target("ledger.jsonl", "ledger_line", "ledger_silent"),
    "stat cache": Target("stat-cache.json", "cache_damaged"),
    "remembered plan": Target("plans/*.json", "cache_damaged"),
}
CASES = [
    (name, how)
    for name, target in TARGETS.items()
    for how in (*ALONE, *(["swap"] if target.swapped else []))
    if (name, how) != ("config", "flip")  # it stays JSON and says another value; nothing reads it again
]


def root(bench: Bench) -> Path:
    """The store's folder."""
    return bench.folder / "store"


def examine(bench: Bench, **how):
    """Examine the store; findings as kind to grade, without those that damage nothing."""
    report = fsck(root(bench), **{"quick": False, "repair": False, **how}, tell=lambda files, size: None)
    found = {each.finding.kind: each.finding.meaning.grade for each in report.fates}
    return {kind: grade for kind, grade in found.items() if kind != "unreferenced"}


def snapshot(bench: Bench) -> dict[str, bytes]:
    """Every file of the store."""
    return {str(p.relative_to(root(bench))): p.read_bytes() for p in root(bench).rglob("*") if p.is_file()}


def damage(bench: Bench, name: str, how: str) -> None:
    """Damage the first file of a kind, or exchange it with the second."""
    found = sorted(root(bench).glob(TARGETS[name].glob))
    if how == "swap":
        other = next(path for path in found[1:] if path.read_bytes() != found[0].read_bytes())
        swap(found[0], other)
    else:
        ALONE[how](found[0])


def expected(name: str, how: str) -> str | None:
    """The kind that must be among the findings; a changed letter of what carries no checksum may not show."""
    target = TARGETS[name]
    if how == "flip" and name in ("status", "manifest of a checkpoint"):
        return None
    if name == "ledger" and how in ("empty", "delete"):
        return "ledger_silent"
    return {"delete": target.deleted, "swap": target.swapped}.get(how, target.content)


def test_the_pattern_is_clean(bench):
    """Without damage nothing is found, and a repair changes no file."""
    before = snapshot(bench)
    assert {} == examine(bench, repair=True) == examine(bench, quick=True)
    assert before == snapshot(bench)


@pytest.mark.parametrize(("name", "how"), CASES)
def test_damage_is_found_repaired_and_never_served(bench, name, how):
    """It is named; one repair leaves a clean store, a second changes nothing; runs give what is right."""
    damage(bench, name, how)
    kind = expected(name, how)
    assert kind is None or kind in examine(bench)
    shutil.copytree(root(bench), bench.folder / "unrepaired", symlinks=True)

    examine(bench, repair=True)
    assert [] == [kind for kind, grade in examine(bench).items() if grade is not Grade.NOTE]
    before = snapshot(bench)
    examine(bench, repair=True)
    assert before == snapshot(bench)
    check_results(bench)

    if name == "version":  # no command but fsck takes such a folder for a store
        return
    shutil.rmtree(root(bench))
    (bench.folder / "unrepaired").rename(root(bench))
    check_results(bench)


def test_a_stage_never_reads_what_has_rotted(tmp_path):
    """A bad disk is noticed before the launch; the same command again makes what was damaged anew."""
    bench = Bench(tmp_path)
    bench.write(a={"value": 1})
    assert {"a": "done"} == bench.states()
    digest = bytes_digest(b"1()")
    rot(bench.store().blob(digest), digest)
    bench.write(a={"value": 1}, b={"value": 2, "left": "a.thing"})
    assert {"a": "cached", "b": "failed"} == bench.states()
    assert [] == [line for line in bench.trace() if line.startswith("b ")]
    assert {"a": "done", "b": "done"} == bench.states()
    check_results(bench)


def check_results(bench: Bench) -> None:
    """A run gives the right bytes, and then there is nothing to do."""
    outcome = bench.run()
    store = bench.store()
    trees = {name: ended.result.outputs["thing"] for name, ended in outcome.stages.items()}
    assert RIGHT == {name: (store.view_read(tree) / "data.txt").read_text() for name, tree in trees.items()}
    plan = ["plan", str(bench.spec), "--store", str(root(bench)), "--detailed-exitcode"]
    assert 0 == main(plan)
