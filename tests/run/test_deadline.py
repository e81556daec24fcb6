"""A run that has to have stopped by a moment: what it saves, what it does not start, how it reads times."""

import os
import time
from datetime import datetime, timedelta

import pytest

from rlhfc.cli.main import main
from rlhfc.errors import UserError
from rlhfc.run.deadline import Deadline, Lookout, parse_deadline, parse_margin, parse_seconds, saving_seconds
from rlhfc.run.run import Terms
from rlhfc.run.stage import StageRun
from rlhfc.run.summary import closing_lines, run_document


def within(seconds: float, margin: float) -> Terms:
    """Terms of a run that has so many seconds."""
    return Terms(deadline=parse_deadline(f"{seconds}s", margin))


def test_stages_save_before_the_deadline_and_nothing_new_starts(bench):
    """At the margin running stages are asked to save; the run ends with status 130 and says why."""
    bench.write(a={"steps": 400, "step_seconds": 0.1}, b={"left": "a.thing"})
    outcome = bench.run(terms=within(60, 57))
    states = {name: str(ended.state) for name, ended in outcome.stages.items()}
    assert ({"a": "interrupted", "b": "waiting"}, 130) == (states, outcome.exit_status)
    assert outcome.reason == run_document(outcome, None)["reason"]
    assert outcome.reason.startswith("stopped for `--stop-before 60s`, which is 5")
    lines = closing_lines(outcome, bench.spec)
    assert [outcome.reason, "run the same command to continue"] == [lines[1], lines[-1]]
    end = [entry for entry in bench.store().ledger.read() if entry["event"] == "ended"][-1]
    assert ("interrupted", outcome.reason) == (end["state"], end["reason"])


def test_a_stage_that_does_not_listen_is_ended_at_the_deadline(bench):
    """What has not stopped by then is told to end."""
    bench.write(a={"steps": 400, "step_seconds": 0.1, "behave": "deaf"})
    outcome = bench.run(terms=within(3, 1))
    assert (130, ["interrupted"]) == (outcome.exit_status, bench.attempt_states())
    assert [] == bench.living()


def test_nothing_starts_without_time_to_save(bench, monkeypatch):
    """A run whose margin is longer than its time launches nothing, and takes no lock for it either."""
    bench.write(a={})
    monkeypatch.setattr(StageRun, "perform", lambda work: pytest.fail("a stage was begun"))
    outcome = bench.run(terms=within(60, 120))
    assert (["waiting"], 130, []) == (
        [str(ended.state) for ended in outcome.stages.values()],
        outcome.exit_status,
        bench.trace(),
    )


def test_a_run_that_is_done_in_time_is_done(bench):
    """A deadline that is far changes nothing."""
    bench.write(a={})
    outcome = bench.run(terms=within(3600, 120))
    assert (0, None) == (outcome.exit_status, outcome.reason)


@pytest.mark.parametrize(
    ("text", "seconds"),
    [
        ("90s", 90.0),
        ("3h50m", 13800.0),
        ("1.5 h", 5400.0),
        ("2d 1h 5min", 176700.0),
        ("3h50", None),
        ("", None),
        ("h", None),
        ("-5s", None),
        ("2026-11-23T08:00", None),
    ],
)
def test_times_from_now(text, seconds):
    """Numbers with units, the larger first or not; anything else is none."""
    assert seconds == parse_seconds(text)


def test_a_moment_is_local_unless_it_says_otherwise():
    """The same moment, written in local time and with an offset."""
    moment = datetime.now().astimezone() + timedelta(hours=2)
    local = parse_deadline(moment.replace(tzinfo=None).isoformat(), 0.0)
    zoned = parse_deadline(moment.isoformat(), 0.0)
    assert 7190 < local.remaining() <= 7200
    assert abs(local.remaining() - zoned.remaining()) < 1


@pytest.mark.parametrize(
    ("text", "message"),
    [("tomorrow", "is no time"), ("2020-01-01T00:00", "has passed"), ("2020-13-01", "is no time")],
)
def test_what_is_no_moment_to_come_is_refused(text, message):
    """With the forms that would do."""
    with pytest.raises(UserError, match=message):
        parse_deadline(text, 0.0)


def test_margin_is_two_minutes_and_needs_a_deadline(bench, capsys):
    """Unless it is given; alone it means nothing."""
    assert (120.0, 300.0) == (parse_margin(None), parse_margin("5min"))
    bench.write(a={})
    assert 1 == main(["run", str(bench.spec), "--stop-margin", "5min"])
    assert "`--stop-margin` goes with `--stop-before`" in capsys.readouterr().err


def checkpoint(work, step: int, seconds: float):
    """A checkpoint that took so long to save."""
    folder = work / "checkpoints" / f"step-{step:06d}"
    folder.mkdir(parents=True)
    for name, at in (("state", 1_000_000.0), ("COMPLETE.json", 1_000_000.0 + seconds)):
        (folder / name).write_text("{}")
        os.utime(folder / name, (at, at))


def test_the_margin_is_at_least_the_longest_save_and_a_half(tmp_path):
    """A stage that takes four minutes to save is asked six minutes before the deadline."""
    checkpoint(tmp_path, 1, 240.0)
    checkpoint(tmp_path, 2, 30.0)
    (tmp_path / "checkpoints" / "step-000003").mkdir()
    assert 360.0 == saving_seconds([tmp_path])
    left = [400.0]
    lookout = Lookout(Deadline("x", 120.0, lambda: left[0]), lambda: [tmp_path])
    assert 0 == lookout.level()
    left[0] = 359.0
    assert 1 == lookout.level()
    left[0] = 0.0
    assert 2 == lookout.level()


def test_times_that_were_copied_are_no_measure(tmp_path):
    """A checkpoint whose files are a day older than its end does not stop a run a day early."""
    checkpoint(tmp_path, 1, 86400.0)
    assert 5400.0 == saving_seconds([tmp_path])


def test_a_deadline_by_the_clock_follows_the_clock(monkeypatch):
    """When the clock is set, a moment comes nearer, and a time from now does not."""
    moment = (datetime.now().astimezone() + timedelta(hours=1)).isoformat()
    by_clock, from_now = parse_deadline(moment, 0.0), parse_deadline("1h", 0.0)
    now = time.time()
    monkeypatch.setattr(time, "time", lambda: now + 7200.0)
    assert by_clock.over()
    assert not from_now.over()
