"""Disk space: refused before it runs out, and told when it does."""

import errno
import json
import os

import pytest

from rlhfc.errors import UserError
from rlhfc.run import space, stage
from rlhfc.run.run import Terms
from rlhfc.run.space import Free, free_space
from rlhfc.store.store import Store

STEPS = {"steps": 3, "step_seconds": 0.0}


@pytest.fixture
def disk(monkeypatch):
    """A disk of which the test says what is free."""
    left = {"size": 10**12, "files": 10**6}
    monkeypatch.setattr(space, "free_space", lambda folder: Free(left["size"], left["files"]))
    return left


def test_a_run_that_cannot_fit_is_refused_with_numbers(bench, disk):
    """A stage that made 3 bytes and is to run again needs 3 bytes and its checkpoints; 2 are free."""
    bench.write(a={**STEPS, "value": 1})
    bench.run()
    bench.write(a={**STEPS, "value": 2})
    disk["size"] = 2
    with pytest.raises(UserError) as refused:
        bench.run()
    found = refused.value.diagnostics[0]
    root = bench.store().layout.root
    # A checkpoint of the last result is one byte of state and its COMPLETE.json; two are there at a time.
    one = next(status["checkpoint_size"] for status in [last_status(bench, "a")])
    assert (
        f"needs at least {3 + 2 * one} B (3 B of outputs, {2 * one} B of checkpoints of a), "
        f"and the file system of `{root}` has 2 B" == found.message
    )
    assert "`rlhfc gc` frees space" in found.hint
    assert {"a": "done"} == bench.states(terms=Terms(space=False))


def last_status(bench, stage):
    """The status of a stage's newest attempt, as it is written."""
    works = sorted((bench.folder / "store" / "work").glob(f"{stage}-*/attempts/*/status.json"))
    return json.loads(works[-1].read_text())


def test_what_is_cached_needs_nothing(bench, disk):
    """A run that has nothing to do is never refused."""
    bench.write(a=STEPS)
    bench.run()
    disk["size"] = 0
    assert {"a": "cached"} == bench.states()


def test_a_disk_without_names_is_refused(bench, disk):
    """A file system that takes no more files is full, whatever bytes it has."""
    bench.write(a=STEPS)
    disk["files"] = 20
    with pytest.raises(UserError, match="needs 500 new files"):
        bench.run()


def test_a_stage_is_looked_at_again_when_its_turn_comes(bench, disk, monkeypatch):
    """What has filled the disk since the run began stops the stage before it is launched."""
    bench.write(a={**STEPS, "value": 1}, b={**STEPS, "left": "a.thing", "value": 1})
    bench.run()
    bench.write(a={**STEPS, "value": 2}, b={**STEPS, "left": "a.thing", "value": 2})
    publish = Store.publish

    def filling(store, product):
        disk["size"] = 1
        return publish(store, product)

    monkeypatch.setattr(Store, "publish", filling)
    outcome = bench.run()
    assert ["done", "failed"] == [str(ended.state) for ended in outcome.stages.values()]
    assert outcome.stages["b"].failure.message.startswith("needs at least")
    assert 1 == sum(line == "b starts" for line in bench.trace())


def test_a_disk_that_fills_up_is_told_with_path_and_numbers(bench, disk, monkeypatch):
    """ENOSPC while the result is published: which path, what is free; the next run goes on."""
    bench.write(a=STEPS)

    def full(store, product):
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC), str(product.metrics))

    disk["size"] = 1234
    with monkeypatch.context() as patched:
        patched.setattr(Store, "publish", full)
        outcome = bench.run()
    failure = outcome.stages["a"].failure
    metrics = store_work(bench, outcome) / "attempts" / "001" / "metrics.jsonl"
    assert f"No space left on device: `{metrics}`; 1.2 kB free" == failure.message
    assert "`rlhfc gc` frees space" in failure.hint
    assert ("failed", "disk_full") == (last_status(bench, "a")["state"], last_status(bench, "a")["fault"])
    assert {"a": "done"} == bench.states()


def test_a_fault_after_the_result_is_published_costs_no_result(bench, monkeypatch):
    """What cannot be cleared away stays for the next run with work; the stage is done."""
    bench.write(a=STEPS)

    def broken(work, scratch, last):
        raise OSError(errno.EIO, os.strerror(errno.EIO), str(work))

    with monkeypatch.context() as patched:
        patched.setattr(stage, "remove_outputs", broken)
        outcome = bench.run()
    assert "done" == str(outcome.stages["a"].state)
    checkpoints = store_work(bench, outcome) / "attempts" / "001" / "checkpoints"
    assert checkpoints.exists()
    bench.write(a=STEPS, b={**STEPS, "value": 2})
    assert {"a": "cached", "b": "done"} == bench.states()
    assert not checkpoints.exists()


def test_a_stage_that_finds_the_disk_full_is_told_the_same_way(bench, disk):
    """Status 74: the file that did not fit, what the stage needs by its last result, and what is free."""
    bench.write(a={**STEPS, "value": 1})
    bench.run()
    need = 3 + 2 * last_status(bench, "a")["checkpoint_size"]
    bench.write(a={**STEPS, "value": 2, "behave": "full"})
    disk["size"] = 5000
    failure = bench.run().stages["a"].failure
    assert f"No space left on device: `state`; {need} B are needed and 5.0 kB free" == failure.message
    assert "run the same command again" in failure.hint
    assert 74 == failure.returncode


def store_work(bench, outcome):
    """The work folder of stage `a`."""
    return bench.store().work("a", outcome.stages["a"].key)


def test_free_space_of_a_real_file_system(tmp_path):
    """Bytes and names that an ordinary user may still take."""
    found = free_space(tmp_path)
    assert 0 < found.size <= os.statvfs(tmp_path).f_bfree * os.statvfs(tmp_path).f_frsize
    assert found.files is None or found.files > 0


def test_weights_are_counted_by_their_type(tmp_path):
    """Two bytes a weight in bf16, else four at most: never more weights than there are."""
    (tmp_path / "model.safetensors").write_bytes(b"x" * 4000)
    (tmp_path / "config.json").write_text('{"dtype": "bfloat16"}')
    assert 2000 == space._weights(tmp_path)
    (tmp_path / "config.json").write_text('{"torch_dtype": "float32"}')
    assert 1000 == space._weights(tmp_path)
    assert 0 == space._weights(tmp_path / "missing")
