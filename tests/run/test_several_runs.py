"""Several runs on one store: each key is made once, removal disturbs nobody, who froze harms nobody."""

import json
import signal
import time

import pytest
from races import race
from workshop import finish, wait_for

from rlhfc.cli.main import main
from rlhfc.run import attempt as module
from rlhfc.run import executor
from rlhfc.run.attempt import attempts, new_attempt, remove_outputs, take_over
from rlhfc.store.checkpoints import FORMAT, newest_checkpoint, read_metrics
from rlhfc.store.holder import Holder
from rlhfc.store.pins import read_pins
from rlhfc.store.store import Store

SLOW = {"steps": 6, "step_seconds": 0.25}


@pytest.mark.parametrize(("runs", "leases", "beside"), [(4, False, None), (2, True, "gc")])
def test_runs_share_the_work(tmp_path, runs, leases, beside):
    """Runs that share keys make each of them once, say nothing, and end with the right outputs."""
    race(tmp_path, runs, seed=runs, leases=leases, beside=beside)


def use_leases(bench, seconds: float = 1.0) -> None:
    """Have the store's locks be leases of a second."""
    bench.store()
    (bench.folder / "store" / "locks" / "leases").write_text(json.dumps({"seconds": seconds}))


@pytest.mark.parametrize("behave", ["well", "deaf"])
def test_run_that_froze_shares_nothing_with_its_successor(bench, monkeypatch, behave):
    """A run that froze beyond its lease, its command still at work on another machine, changes no result."""
    use_leases(bench)
    bench.write(a={**SLOW, "behave": behave})
    first = bench.start()
    wait_for(lambda: "a step-2" in bench.trace())
    first.send_signal(signal.SIGSTOP)
    monkeypatch.setattr(module, "leftovers", lambda folder, head: [])  # as seen from another machine
    outcome = bench.run()
    assert "done" == str(outcome.stages["a"].state)
    result = outcome.stages["a"].result
    old, new = attempts(bench.store().work("a", result.key))
    assert "lost" == old.status().state
    assert (old.folder / "stop").exists()
    first.send_signal(signal.SIGCONT)
    status, _, err = finish(first)
    assert 1 == status
    assert "stood still for so long that" in err
    assert result == bench.store().lookup(result.key)
    assert [1, 2, 3, 4, 5, 6] == [line["step"] for line in bench.store().metrics(result)]
    assert [1, 2, 3, 4, 5, 6] == [line["step"] for line in read_metrics(new.folder / "metrics.jsonl")]
    assert ["lost", "done"] == bench.attempt_states()
    assert [] == wait_for(lambda: [[]] if not bench.living() else None)[0]


def test_command_of_a_run_that_lost_its_lease_is_ended(bench, monkeypatch):
    """A run that wakes and finds its lease taken over ends its command at once, not at its end."""
    use_leases(bench)
    bench.write(a={"steps": 400, "step_seconds": 0.25, "behave": "deaf"})
    first = bench.start()
    wait_for(lambda: "a step-1" in bench.trace())
    first.send_signal(signal.SIGSTOP)
    key = json.loads(next((bench.folder / "store" / "work").glob("a-*/key.json")).read_bytes())["key"]
    with bench.store().locks.key(key, Holder.me(), lambda: False, lambda owner: None):
        first.send_signal(signal.SIGCONT)
        status, _, err = finish(first, 20)
    assert (1, True) == (status, "killed by signal 9" in err or "stood still" in err), err
    assert [] == bench.living()


def test_waiting_run_names_the_other(bench):
    """A run that waits for another's result says whose."""
    bench.write(a={**SLOW, "steps": 400})
    first = bench.start()
    wait_for(lambda: "a step-1" in bench.trace())
    second = bench.start()
    said = second.stderr.readline()
    assert said.startswith("a: waits for run ")
    assert f"(pid {first.pid}, since " in said
    assert said.endswith("), which is making it\n")
    second.send_signal(signal.SIGINT)
    assert 130 == finish(second)[0]
    first.send_signal(signal.SIGINT)
    assert 130 == finish(first)[0]


def test_living_run_pins_what_it_uses(bench):
    """While a run goes on, what it found and makes is pinned; when it ends nothing is."""
    bench.write(z={"value": 7})
    found = bench.run().stages["z"].result
    bench.write(z={"value": 7}, a={**SLOW, "left": "z.thing"})
    process = bench.start()
    wait_for(lambda: "a step-1" in bench.trace())
    layout = bench.store().layout
    (pin,) = read_pins(layout)
    making = json.loads(next((bench.folder / "store" / "work").glob("a-*/key.json")).read_bytes())["key"]
    assert ({found.key, making}, {*found.outputs.values()}) == (pin.keys, pin.trees)
    assert pin.lives(time.time())
    assert 0 == finish(process)[0]
    assert [] == list(read_pins(layout))


def test_pins_of_a_killed_run_are_dead(bench):
    """A run that was killed pins nothing any more, though its file is still there."""
    bench.write(a=SLOW)
    bench.kill_when(lambda: "a step-1" in bench.trace())
    (pin,) = read_pins(bench.store().layout)
    assert not pin.lives(time.time())


def removal(bench) -> int:
    """Everything goes that nothing keeps."""
    return main(["gc", "--store", str(bench.folder / "store"), "--grace", "0", "--keep-runs", "0"])


def test_result_that_goes_when_it_was_found_is_made_again(bench, monkeypatch):
    """Removed between its finding and its pin, a result is a miss: the stage runs."""
    bench.write(a={"value": 3}, b={"left": "a.thing"})
    bench.run()
    real, removed = executor.decide, []

    def decide(*arguments, **options):
        planned = real(*arguments, **options)
        if not removed:
            removed.append(removal(bench))
        return planned

    monkeypatch.setattr(executor, "decide", decide)
    outcome = bench.run()
    assert [0] == removed
    assert {"a": "done", "b": "done"} == {name: str(ended.state) for name, ended in outcome.stages.items()}
    assert "0(3())" == bench.output(outcome, "b")


def test_result_that_was_found_is_pinned_at_once(bench, monkeypatch):
    """From the moment that a run counts on a result, removal leaves it alone."""
    bench.write(a={"value": 3})
    bench.run()
    bench.write(a={"value": 3}, b={"left": "a.thing"})
    real, removed = Store.lookup, []

    def lookup(store: Store, key: str):
        found = real(store, key)
        if not removed and any(key in pin.keys for pin in read_pins(store.layout)):
            removed.append(key)
            assert 0 == removal(bench)
        return found

    monkeypatch.setattr(Store, "lookup", lookup)
    outcome = bench.run()
    assert [outcome.stages["a"].key] == removed
    assert {"a": "cached", "b": "done"} == {name: str(ended.state) for name, ended in outcome.stages.items()}


KEY = f"b3:{'0' * 64}"


def checkpoint(place, step: int, *, complete: bool = True) -> None:
    """A checkpoint of a step in an attempt's folder, with the metrics up to it."""
    folder = place / "checkpoints" / f"step-{step:06d}"
    folder.mkdir(parents=True)
    (folder / "state").write_text("x")
    if complete:
        files = [{"path": "state", "size": 1}]
        record = {"format": FORMAT, "key": KEY, "step": step, "total": 9, "files": files}
        (folder / "COMPLETE.json").write_text(json.dumps(record))
    (place / "metrics.jsonl").write_text(f'{{"step": {step}}}\n')


def test_attempt_takes_over_what_is_complete(tmp_path):
    """The next attempt has the checkpoints and a copy of the metrics of the one before; its outputs go."""
    (tmp_path / "tmp").mkdir()
    first = new_attempt(tmp_path)
    checkpoint(first.folder, 3)
    checkpoint(first.folder, 6, complete=False)
    (first.folder / "out" / "model").mkdir(parents=True)
    second = new_attempt(tmp_path)
    take_over(tmp_path, second, tmp_path / "tmp")
    assert ["step-000003"] == [path.name for path in (second.folder / "checkpoints").iterdir()]
    assert '{"step": 6}\n' == (second.folder / "metrics.jsonl").read_text()
    assert ["metrics.jsonl"] == [path.name for path in first.folder.iterdir()]
    assert (3, 9) == newest_checkpoint(tmp_path, KEY)


def test_checkpoints_where_earlier_versions_kept_them(tmp_path):
    """An action that an earlier version began, with checkpoints beside its attempts, goes on."""
    (tmp_path / "tmp").mkdir()
    checkpoint(tmp_path, 3)
    assert (3, 9) == newest_checkpoint(tmp_path, KEY)
    attempt = new_attempt(tmp_path)
    take_over(tmp_path, attempt, tmp_path / "tmp")
    assert (attempt.folder / "checkpoints" / "step-000003").is_dir()
    assert (3, 9) == newest_checkpoint(tmp_path, KEY)
    remove_outputs(tmp_path, tmp_path / "tmp", attempt.number)
    assert newest_checkpoint(tmp_path, KEY) is None


def test_who_has_published_leaves_later_attempts_alone(tmp_path):
    """What is tidied up is one's own and earlier: a later attempt is another run's."""
    (tmp_path / "tmp").mkdir()
    one, two = new_attempt(tmp_path), new_attempt(tmp_path)
    checkpoint(one.folder, 3)
    checkpoint(two.folder, 6)
    remove_outputs(tmp_path, tmp_path / "tmp", one.number)
    assert [False, True] == [(attempt.folder / "checkpoints").exists() for attempt in (one, two)]
