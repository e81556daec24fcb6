"""Stores that tests begin with: an empty one, and one with something of everything."""

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

sys.path.insert(0, str(Path(__file__).parents[1] / "run"))
from workshop import Bench

from rlhfc.cli.main import main
from rlhfc.compile import digests
from rlhfc.plan import memo
from rlhfc.run.attempt import Attempt, Status
from rlhfc.store.digest import bytes_digest
from rlhfc.store.store import Store
from rlhfc.upkeep import fsck as examination

KEY = "b3:" + "d" * 64


@pytest.fixture
def store(tmp_path):
    """A store whose warnings fail the test."""
    return Store.create(tmp_path / "store", warn=pytest.fail)


@pytest.fixture(scope="module")
def pattern(tmp_path_factory) -> Bench:
    """A workshop whose store has one of everything; each test works in a copy."""
    bench = Bench(tmp_path_factory.mktemp("pattern"))
    bench.write(a={"value": 1}, b={"value": 2, "left": "a.thing"})
    with pytest.MonkeyPatch.context() as patch:
        for module in (memo, digests):
            patch.setattr(module, "RACY_NS", -(10**15))
        outcome = bench.run()
        store = bench.store()
        for ended in outcome.stages.values():
            store.view(ended.result.outputs["thing"])
        for view in store.layout.root.glob("views/*/data.txt"):  # as a reflink would be
            data, state = view.read_bytes(), view.stat()
            view.unlink()
            view.write_bytes(data)
            os.utime(view, ns=(state.st_atime_ns, state.st_mtime_ns))
        work = store.work("c", KEY)
        work.mkdir()
        (work / "key.json").write_text(json.dumps({"key": KEY, "pipeline": "toys", "stage": "c"}))
        attempt = Attempt(work / "attempts" / "001")
        attempt.folder.mkdir(parents=True)
        attempt.write_status(Status("toys", "c", KEY, "r", "interrupted", "2026-01-01T00:00:00+00:00"))
        for step in (1, 2):
            folder = attempt.folder / "checkpoints" / f"step-{step:06d}"
            folder.mkdir(parents=True)
            (folder / "state").write_text(str(step))
            row = {"path": "state", "size": 1, "digest": bytes_digest(str(step).encode())}
            record = {"format": 3, "key": KEY, "step": step, "total": 4, "files": [row]}
            (folder / "COMPLETE.json").write_text(json.dumps(record))
        assert 0 == main(["plan", str(bench.spec), "--store", str(store.layout.root), "--detailed-exitcode"])
    return bench


@pytest.fixture
def bench(pattern, tmp_path, monkeypatch) -> Bench:
    """A copy with its hard links and times."""
    monkeypatch.setattr(examination, "AGAIN_SECONDS", 0)
    subprocess.run(["cp", "-a", f"{pattern.folder}/.", str(tmp_path)], check=True)
    return Bench(tmp_path)
