"""Stores to remove from: results by number, removal with the ledger alone to say what there was."""

import json
import os
import shutil
import time
from dataclasses import replace
from functools import partial
from pathlib import Path

from test_store import product

from rlhfc.store.store import Store
from rlhfc.upkeep.inventory import take_inventory
from rlhfc.upkeep.marks import Policy, Roots, choose
from rlhfc.upkeep.sweep import sweep

ALL = Policy(keep_runs=0, grace=0.0)
DAY = 24 * 3600.0


def key_of(number: int) -> str:
    """A key."""
    return f"b3:{number:064x}"


def on_cpu(key: str, seconds: float) -> tuple[float, float]:
    """What a result took, when all are made on the CPU."""
    return 0.0, seconds


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
