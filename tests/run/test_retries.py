"""What follows when an attempt fails: launched again, with less, or not at all, by the kind of fault."""

import json
import os
import random
import signal
import time

import pytest
from workshop import finish, wait_for

from rlhfc.cli.main import main
from rlhfc.kind import StageParams
from rlhfc.run.attempt import Status, attempts
from rlhfc.run.fault import Fault, fault_of
from rlhfc.run.retry import in_vain, pause
from rlhfc.run.summary import closing_lines, run_document

QUICK = {"retries": 3, "retry_delay": 0.01}


def statuses(bench, stage="a") -> list[Status]:
    """Statuses of every attempt of a stage, oldest first."""
    works = (bench.folder / "store" / "work").glob(f"{stage}-*")
    return [attempt.status() for work in works for attempt in attempts(work)]


def retried(bench) -> list[dict]:
    """What the ledger says of launches after a failure."""
    return [entry for entry in bench.store().ledger.read() if entry["event"] == "retried"]


def test_a_killed_stage_is_launched_again_from_its_checkpoint(bench):
    """A command that a signal kills goes on from its checkpoint in the same run, which says so."""
    bench.write(a={**QUICK, "steps": 4, "behave": "killed", "first": 1})
    outcome = bench.run()
    assert ["failed", "done"] == bench.attempt_states()
    assert 1 == bench.trace().count("a step-1")
    assert "a: resumed at step 1" in bench.said
    assert any(line.startswith("a: killed by signal 9; launching it again in") for line in bench.said)
    found = [(s.fault, s.checkpoint_before, s.checkpoint_after) for s in statuses(bench)]
    assert [(Fault.MACHINE, 0, 1), (None, 1, 4)] == found
    times = [float(line.split()[-1]) for line in bench.trace_file.read_text().splitlines()]
    assert times[-1] - times[0] <= outcome.stages["a"].seconds  # both launches
    entry = retried(bench)[0]
    assert ("a", 1, "machine", "killed by signal 9") == tuple(
        entry[name] for name in ("stage", "attempt", "fault", "reason")
    )
    assert ["machine"] == run_document(outcome, None)["stages"][0]["faults"]


def test_retries_bound_the_launches_of_a_run(bench):
    """With `retries: 1` the second failure stands, though each attempt came further."""
    bench.write(a={**QUICK, "retries": 1, "steps": 9, "behave": "killed"})
    assert {"a": "failed"} == bench.states()
    assert ["failed", "failed"] == bench.attempt_states()


def test_three_failures_without_a_checkpoint_are_refused_until_forced(bench):
    """A stage that fails three times at the same step is launched no more, by later runs neither."""
    bench.write(a={**QUICK, "retries": 9, "steps": 4, "behave": "killed", "checkpoint_every": 4})
    assert {"a": "failed"} == bench.states()
    assert ["failed"] * 3 == bench.attempt_states()
    outcome = bench.run()
    assert ["failed"] * 3 == bench.attempt_states()
    failure = outcome.stages["a"].failure
    assert (
        "failed 3 times in a row before its first checkpoint, the last time: killed by signal 9"
        == failure.message
    )
    assert "`--force a` tries again" in failure.hint
    bench.write(a={**QUICK, "retries": 9, "steps": 4, "behave": "killed", "first": 4, "checkpoint_every": 4})
    assert {"a": "done"} == bench.states(forced=["a"])
    assert ["failed"] * 4 + ["done"] == bench.attempt_states()


@pytest.mark.parametrize(
    ("behave", "fault"), [("fail", Fault.STAGE), ("user_error", Fault.USER), ("full", Fault.DISK)]
)
def test_what_would_fail_again_is_not_launched_again(bench, behave, fault):
    """A traceback, a mistake of the user's and a full disk end the stage at once."""
    bench.write(a={**QUICK, "behave": behave})
    assert {"a": "failed"} == bench.states()
    assert [fault] == [status.fault for status in statuses(bench)]
    assert [] == retried(bench)


@pytest.mark.parametrize("behave", ["lost_peer", "lie"])
def test_lost_connections_and_lying_launchers_are_the_machines_fault(bench, behave):
    """A rank that lost its peers, and a launcher that exits with 0 without outputs, are launched again."""
    bench.write(a={**QUICK, "steps": 3, "behave": behave, "first": 1})
    assert {"a": "done"} == bench.states()
    assert [Fault.MACHINE, None] == [status.fault for status in statuses(bench)]


def test_a_killed_guard_ends_its_attempt_and_the_stage_goes_on(bench):
    """`kill -9` of the guard: what lives of the attempt is ended, also out of its session, and it resumes."""
    bench.write(a={**QUICK, "steps": 6, "step_seconds": 0.3, "behave": "family", "first": 1})
    process = bench.start()
    wait_for(lambda: "a step-3" in bench.trace())
    attempt = next((bench.folder / "store" / "work").glob("a-*/attempts/001"))
    guard = json.loads((attempt / "status.json").read_bytes())["head"]["pid"]
    os.kill(guard, signal.SIGKILL)
    status, _, err = finish(process)
    assert 0 == status, err
    assert "a: its guard was killed, so nobody saw it end; launching it again" in err
    assert ["failed", "done"] == bench.attempt_states()
    assert 1 == bench.trace().count("a step-1")
    assert [] == bench.living()


def test_out_of_memory_halves_the_micro_batch(bench, capsys):
    """A stage that does not fit is launched with half the rows until it fits, and all records say so."""
    bench.write(a={"fits": 2, "value": 5})
    outcome = bench.run()
    sizes = [line.split()[1] for line in bench.trace() if "rows" in line]
    assert ["has-8-rows", "has-4-rows", "has-2-rows"] == sizes
    assert [{}, {"micro_batch_size": 4}, {"micro_batch_size": 2}] == [s.adjusted for s in statuses(bench)]
    assert [Fault.MEMORY, Fault.MEMORY, None] == [s.fault for s in statuses(bench)]
    assert "a: ran out of memory; launching it again now with micro_batch_size 4" in bench.said
    store, key = bench.store(), outcome.stages["a"].key
    assert {"micro_batch_size": 2} == store.lookup(key).adjusted
    assert 2 == store.key_document(key)["recorded"]["params.micro_batch_size"]
    assert [{"micro_batch_size": 4}, {"micro_batch_size": 2}] == [e["adjusted"] for e in retried(bench)]
    assert {"a": "cached"} == bench.states()
    options = [str(bench.spec), "--store", str(bench.folder / "store")]
    main(["status", *options])
    assert " with micro_batch_size 2 " in capsys.readouterr().out
    main(["show", *options, "a"])
    shown = capsys.readouterr().out
    assert "fitted    with micro_batch_size 2, after a lack of memory" in shown
    assert "with micro_batch_size 4: ran out of memory" in shown
    main(["plan", *options])
    assert "no rerun for micro_batch_size 2 → 8" in capsys.readouterr().out
    main(["report", *options])
    (page,) = (bench.folder / "store" / "reports").glob("*.html")
    assert "made with micro_batch_size 2, after a lack of memory" in page.read_text()


def test_the_next_run_begins_with_what_fitted(bench):
    """A stage that was stopped after it had been made smaller goes on so, and not with another failure."""
    bench.write(a={"fits": 4, "steps": 40, "step_seconds": 0.1})
    process = bench.start()
    wait_for(lambda: "a step-2" in bench.trace())
    process.terminate()
    assert 130 == finish(process)[0]
    bench.write(a={"fits": 4, "steps": 40})
    assert {"a": "done"} == bench.states()
    assert ["has-8-rows", "has-4-rows", "has-4-rows"] == [
        line.split()[1] for line in bench.trace() if "rows" in line
    ]
    assert "a: goes on with micro_batch_size 4, which fitted into memory" in bench.said


@pytest.mark.parametrize(
    ("fields", "hint", "launches"),
    [
        ({"fits": 0}, "`zero_stage: 3`", 4),
        ({"fits": 4, "numerics": "strict"}, "the micro-batch is yours to lower", 1),
    ],
)
def test_what_never_fits_is_the_users_to_mend(bench, fields, hint, launches):
    """With one row left, or the micro-batch in the key, the stage fails and says what saves memory."""
    bench.write(a=fields)
    outcome = bench.run()
    assert ("ran out of memory", launches) == (
        outcome.stages["a"].failure.message,
        len(bench.attempt_states()),
    )
    assert hint in outcome.stages["a"].failure.hint


@pytest.mark.parametrize(
    ("behave", "words"),
    [("silent", "in hang_in_a_collective"), ("mute", "no stack of process")],
)
def test_a_stage_without_a_sign_of_life_is_dumped_ended_and_resumed(bench, behave, words):
    """Stacks of the ranks, or where they wait, are in the log; then it goes on from its checkpoint."""
    bench.write(a={**QUICK, "steps": 3, "behave": behave, "first": 1, "no_progress_timeout": 1.5})
    outcome = bench.run()
    assert {"a": "done"} == {name: str(ended.state) for name, ended in outcome.stages.items()}
    first, second = statuses(bench)
    assert (Fault.NO_PROGRESS, 1, 1) == (first.fault, first.checkpoint_after, second.checkpoint_before)
    assert first.reason.startswith("showed no sign of life for")
    log = next((bench.folder / "store" / "work").glob("a-*/attempts/001/log")).read_text()
    assert words in log


def test_a_stage_that_hangs_after_its_end_is_not_believed(bench):
    """A command that wrote its manifest and then hangs is ended by the watchdog, and made again."""
    bench.write(a={**QUICK, "behave": "lingers", "first": 1, "no_progress_timeout": 1.0})
    assert {"a": "done"} == bench.states()
    assert [Fault.NO_PROGRESS, None] == [status.fault for status in statuses(bench)]


def test_a_slow_stage_that_shows_life_is_left_alone(bench):
    """A step longer than the timeout would be ended; steps below it, however many, are not."""
    bench.write(a={**QUICK, "steps": 8, "step_seconds": 0.5, "no_progress_timeout": 2.5})
    assert {"a": "done"} == bench.states()
    assert ["done"] == bench.attempt_states()


def test_a_stage_beyond_its_timeout_saves_and_fails(bench):
    """The wall limit asks for a checkpoint; the same command with a longer one goes on from there."""
    bench.write(a={**QUICK, "steps": 40, "step_seconds": 0.2, "timeout": 1.0})
    outcome = bench.run()
    failure = outcome.stages["a"].failure
    assert ("took longer than its `timeout` of 1 s", 75, 1) == (
        failure.message,
        failure.returncode,
        outcome.exit_status,
    )
    assert any(line.startswith("a: will resume at step") for line in closing_lines(outcome, bench.spec))
    bench.write(a={**QUICK, "steps": 40})
    assert {"a": "done"} == bench.states()
    assert 1 == bench.trace().count("a step-1")


def test_a_stop_during_the_pause_starts_nothing(bench):
    """A run that is told to stop while a stage waits for its next launch ends at once."""
    bench.write(a={"retries": 3, "retry_delay": 500.0, "steps": 4, "behave": "killed"})
    process = bench.start()
    wait_for(lambda: retried(bench))
    process.terminate()
    status, _, err = finish(process, 15)
    assert (130, ["failed"]) == (status, bench.attempt_states())
    assert "a: interrupted after" in err


def test_stdout_of_any_size_and_any_bytes(bench):
    """Two hundred megabytes that are not UTF-8 end up in the log, and do not hold the stage up."""
    bench.write(a={"behave": "shout"})
    assert {"a": "done"} == bench.states()
    log = next((bench.folder / "store" / "work").glob("a-*/attempts/001/log"))
    assert 200 * 1000 * 1001 == log.stat().st_size
    log.unlink()


def test_a_launcher_that_exits_with_0_when_it_is_told_to_end(bench):
    """Told to end twice, it exits with 0 and has nothing: interrupted, and not done."""
    bench.write(a={"steps": 400, "step_seconds": 0.1, "behave": "exits_zero_when_told"})
    process = bench.start()
    wait_for(lambda: "a step-2" in bench.trace())
    for _ in range(2):
        process.send_signal(signal.SIGTERM)
        time.sleep(0.5)
    assert 130 == finish(process)[0]
    assert ["interrupted"] == bench.attempt_states()


@pytest.mark.parametrize(
    ("returncode", "log", "killed", "fault"),
    [
        (65, "", False, Fault.USER),
        (74, "", False, Fault.DISK),
        (76, "", False, Fault.MEMORY),
        (-9, "", False, Fault.MACHINE),
        (-9, "", True, Fault.MEMORY),
        (247, "[launch.py:1] ['python'] exits with return code = -9", True, Fault.MEMORY),
        (137, "", False, Fault.MACHINE),
        (None, "", False, Fault.MACHINE),
        (1, "KeyError: 'x'", False, Fault.STAGE),
        (1, "", False, Fault.STAGE),
        (1, "[rank1]: torch.OutOfMemoryError: CUDA out of memory. Tried", False, Fault.MEMORY),
        (1, "RuntimeError: [enforce fail] PytorchStreamWriter failed writing file", False, Fault.DISK),
        (1, "[rank0]: RuntimeError: Connection closed by peer [127.0.0.1]:1", False, Fault.MACHINE),
        (1, "RuntimeError: Connection closed by peer\nKeyError: 'x'", False, Fault.STAGE),
        (1, "RuntimeError: CUDA error: uncorrectable ECC error encountered", False, Fault.MACHINE),
    ],
)
def test_faults_are_told_apart(tmp_path, returncode, log, killed, fault):
    """Exit status, then signal, then what was raised: a rank's own error before its peers' laments."""
    (tmp_path / "log").write_text(log)
    assert fault == fault_of(returncode, tmp_path / "log", killed_for_memory=killed)


def status(state, fault=None, before=0, after=0) -> Status:
    """A status of which only the end matters."""
    words = {"pipeline": "p", "stage": "s", "key": "k", "run": "r", "started": "2026-01-01T00:00:00+00:00"}
    return Status(**words, state=state, fault=fault, checkpoint_before=before, checkpoint_after=after)


MACHINE = status("failed", Fault.MACHINE, 4, 4)


@pytest.mark.parametrize(
    ("tried", "count"),
    [
        ([], 0),
        ([MACHINE] * 3, 3),
        ([MACHINE, status("failed", Fault.MACHINE, 4, 6), MACHINE], 1),
        ([MACHINE, status("lost", None, 4, 4), MACHINE], 2),
        ([MACHINE, status("lost", None, 4, 8), MACHINE], 1),
        ([MACHINE, status("interrupted", None, 4, 4), MACHINE], 2),
        ([MACHINE, status("failed", Fault.USER, 4, 4), MACHINE], 1),
        ([MACHINE, status("failed", Fault.MEMORY, 4, 4), MACHINE], 2),
    ],
)
def test_failures_in_vain(tried, count):
    """Those of the machine in a row count; progress and other failures end the row, the rest is no sign."""
    assert count == in_vain(tried)


def test_pauses_double_and_differ():
    """Twice as long each time, up to ten minutes, between half and one and a half times that."""
    params, chance = StageParams(retry_delay=10.0), random.Random(1)
    for nth, middle in enumerate([10.0, 20.0, 40.0, 80.0, 160.0, 320.0, 600.0, 600.0]):
        found = [pause(params, nth, chance) for _ in range(40)]
        assert middle / 2 <= min(found) < middle < max(found) <= middle * 1.5
