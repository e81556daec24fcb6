"""Runs that are killed, stopped, or not alone: the same command again finishes what is left."""

import json
import os
import random
import signal
import time
from dataclasses import replace
from pathlib import Path

import pytest
from workshop import finish, wait_for

from rlhfc.run.attempt import attempts

SLOW = {"steps": 6, "step_seconds": 0.25}


def test_killed_run_is_finished_by_the_same_command(bench):
    """After `kill -9` of the run its processes end, and the same command resumes at the checkpoint."""
    bench.write(a=SLOW, b={"left": "a.thing", "value": 2})
    bench.kill_when(lambda: "a step-3" in bench.trace())
    status, _, err = finish(bench.start())
    assert 0 == status, err
    assert "a: resumed at step 2" in err
    assert 1 == bench.trace().count("a step-2")
    assert ["lost", "done"] == bench.attempt_states()
    assert [1, 2, 3, 4, 5, 6] == [line["step"] for line in metrics(bench, "a")]


def test_damaged_checkpoint_costs_its_steps_only(bench):
    """The run says so, sets it aside, and resumes at the one before."""
    bench.write(a=SLOW)
    bench.kill_when(lambda: "a step-4" in bench.trace())
    checkpoints = (bench.folder / "store" / "work").glob("a-*/attempts/*/checkpoints")
    newest = max(path for folder in checkpoints for path in folder.glob("step-*/COMPLETE.json")).parent
    (newest / "state").write_text("x")
    status, _, err = finish(bench.start())
    assert 0 == status, err
    reason = "the bytes of `state` are not those written"
    assert f"a: checkpoint `{newest.name}` is damaged: {reason}; moved to quarantine" in err
    assert f"a: resumed at step {int(newest.name[5:]) - 1}" in err


def test_metrics_without_a_checkpoint_are_no_ones(bench):
    """What an attempt measured that left nothing to go on from is not the next one's."""
    bench.write(a=SLOW)
    bench.kill_when(lambda: list((bench.folder / "store" / "work").glob("a-*/attempts/001/metrics.jsonl")))
    (attempt,) = (bench.folder / "store" / "work").glob("a-*/attempts/001")
    for complete in attempt.glob("checkpoints/*/COMPLETE.json"):
        complete.unlink()
    with (attempt / "metrics.jsonl").open("a") as lines:
        lines.write('{"step": 0, "loss": "of nobody"}\n')
    assert 0 == finish(bench.start())[0]
    assert "of nobody" not in [line.get("loss") for line in metrics(bench, "a")]


def metrics(bench, stage: str) -> list[dict]:
    """Metric lines of a stage's result."""
    store = bench.store()
    return store.metrics(store.lookup(store.last_key("toys", stage)))


def test_what_outlives_run_and_guard_is_ended_by_the_next_run(bench):
    """With run and guard both killed, children of the command live on; the next run ends them first."""
    bench.write(a={**SLOW, "steps": 40, "behave": "family"})
    first = bench.start()
    wait_for(lambda: "a step-2" in bench.trace())
    attempt = next((bench.folder / "store" / "work").glob("a-*/attempts/001"))
    guard = json.loads((attempt / "status.json").read_bytes())["head"]["pid"]
    os.kill(guard, signal.SIGSTOP)  # else it might see that its run is gone before it goes itself
    first.kill()
    os.kill(guard, signal.SIGKILL)
    first.wait()
    # The kernel ends the command with its guard, and nobody ends the command's child.
    assert 1 == len(wait_for(lambda: found if len(found := bench.living()) == 1 else None))
    bench.write(b={"value": 2})
    status, _, err = finish(bench.start())
    assert 0 == status, err
    assert "a: ended 1 process that a dead run had left behind" in err
    assert [] == bench.living()
    assert ["lost"] == bench.attempt_states()


def test_crash_after_publishing_is_tidied_up(bench):
    """A run that died between publishing and tidying up leaves outputs that the next run removes."""
    bench.write(a={})
    outcome = bench.run()
    store = bench.store()
    work = store.work("a", outcome.stages["a"].key)
    (work / "attempts" / "001" / "out").mkdir()
    (attempt,) = attempts(work)
    attempt.write_status(replace(attempt.status(), state="running"))
    bench.write(a={}, b={"value": 2})
    assert {"a": "cached", "b": "done"} == bench.states()
    assert (["lost"], False) == (bench.attempt_states(), (work / "attempts" / "001" / "out").exists())


def test_killed_run_that_was_to_replace_a_result_resumes(bench):
    """The result that is there is no reason to drop the checkpoints of its successor."""
    bench.write(a=SLOW)
    assert {"a": "done"} == bench.states()
    bench.kill_when(lambda: 2 == bench.trace().count("a step-3"), "--force", "a")
    status, _, err = finish(bench.start("--force", "a"))
    assert 0 == status, err
    assert "a: resumed at step 2" in err
    assert ["done", "lost", "done"] == bench.attempt_states()


def test_living_run_is_left_alone(bench):
    """A second run settles what the dead left, and touches nothing of a run that lives."""
    bench.write(a={**SLOW, "steps": 400})
    first = bench.start()
    wait_for(lambda: "a step-1" in bench.trace())
    bench.write(b={"value": 2})
    assert 0 == finish(bench.start())[0]
    assert ["running"] == bench.attempt_states()
    first.send_signal(signal.SIGINT)
    assert 130 == finish(first)[0]
    assert ["interrupted"] == bench.attempt_states()


@pytest.mark.parametrize("seed", range(3))
def test_kills_at_random_moments(bench, seed):
    """Whenever the run is killed, and however often, the same command finishes with the same bytes."""
    bench.write(
        a={"steps": 3, "step_seconds": 0.1},
        b={"value": 2, "left": "a.thing", "steps": 3, "step_seconds": 0.1},
        c={"value": 3, "left": "a.thing"},
        d={"value": 4, "left": "b.thing", "right": "c.thing"},
    )
    chance = random.Random(seed)
    for _ in range(3):
        process = bench.start("--quiet")
        time.sleep(chance.uniform(0.2, 1.4))
        process.kill()
        process.communicate()
    status, _, err = finish(bench.start())
    assert 0 == status, err
    outcome = bench.run()
    assert outcome.nothing_to_do
    assert "4(2(1()),3(1()))".replace("1()", "0()") == bench.output(outcome, "d")
    assert [] == bench.living()


def test_interrupt_saves_and_the_same_command_resumes(bench):
    """One SIGINT: running stages save a checkpoint, nothing new starts, status 130, and how to go on."""
    bench.write(a=SLOW, b={"left": "a.thing"})
    process = bench.start()
    wait_for(lambda: "a step-2" in bench.trace())
    process.send_signal(signal.SIGINT)
    status, _, err = finish(process)
    assert 130 == status
    assert "a: interrupted after" in err
    assert "run the same command to continue" in err
    assert "b starts" not in bench.trace()
    assert ["interrupted"] == bench.attempt_states()
    step = metrics_so_far(bench)
    assert f"a: will resume at step {step} of 6" in err
    status, _, err = finish(bench.start())
    assert 0 == status
    assert f"a: resumed at step {step}" in err


def metrics_so_far(bench) -> int:
    """Last step that stage `a` has reported."""
    path = next((bench.folder / "store" / "work").glob("a-*/attempts/001/metrics.jsonl"))
    return json.loads(path.read_text().splitlines()[-1])["step"]


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGHUP])
def test_other_signals_stop_like_an_interrupt(bench, number):
    """SIGTERM and SIGHUP ask for a checkpoint too."""
    bench.write(a=SLOW)
    process = bench.start()
    wait_for(lambda: "a step-1" in bench.trace())
    process.send_signal(number)
    assert 130 == finish(process)[0]
    assert ["interrupted"] == bench.attempt_states()


def test_second_interrupt_ends_stages_that_do_not_listen(bench):
    """Twice: a stage that ignores the stop file is told to end."""
    bench.write(a={**SLOW, "steps": 400, "behave": "deaf"})
    process = bench.start()
    wait_for(lambda: "a step-1" in bench.trace())
    process.send_signal(signal.SIGINT)
    time.sleep(0.6)
    assert process.poll() is None
    process.send_signal(signal.SIGINT)
    status, _, err = finish(process, 10)
    assert 130 == status
    assert "stopped before it had saved a checkpoint" in err
    assert [] == bench.living()


def test_third_interrupt_kills(bench):
    """Three times: a stage that ignores SIGTERM is killed."""
    bench.write(a={"behave": "hang"})
    process = bench.start()
    wait_for(lambda: "a hangs" in bench.trace())
    for _ in range(3):
        process.send_signal(signal.SIGINT)
        time.sleep(0.5)
    status, _, _ = finish(process, 10)
    assert 130 == status
    assert [] == bench.living()


def test_two_runs_compute_each_key_once(bench):
    """Two runs on one store at once both succeed, and every stage has been launched once."""
    bench.write(
        a={"steps": 2, "step_seconds": 0.3},
        b={"value": 2, "left": "a.thing", "steps": 2, "step_seconds": 0.3},
        c={"value": 3, "left": "a.thing", "steps": 2, "step_seconds": 0.3},
    )
    both = [bench.start(), bench.start()]
    ended = [finish(process) for process in both]
    assert [0, 0] == [status for status, _, _ in ended], ended
    assert ["a starts", "b starts", "c starts"] == sorted(line for line in bench.trace() if "starts" in line)


def test_json_and_table_say_the_same(bench):
    """`--json` prints one document, else there is a table and the report's path; progress is on stderr."""
    bench.write(a={"value": 4})
    status, out, _ = finish(bench.start("--json"))
    document = json.loads(out)
    assert (0, ["done"], {"value": 4}) == (
        status,
        [stage["state"] for stage in document["stages"]],
        document["stages"][0]["summary"],
    )
    status, out, err = finish(bench.start())
    lines = out.splitlines()
    assert ["stage", "state", "time", "figures"] == lines[0].split()
    assert ["a", "cached"] == lines[1].split()[:2]
    assert f"report: {document['report']}" == lines[-1]
    assert Path(document["report"]).read_text().startswith("<!doctype html>")
    assert "nothing to do: 1 of 1 stages cached" in err
