"""The executor's small parts: slots, logs, tensors' headers, progress, the guard's exits."""

import json
import os
import signal
import struct
import threading
from datetime import UTC, datetime

import pytest
from rich.console import Console
from workshop import wait_for

from rlhfc.run import logs
from rlhfc.run.attempt import Attempt, Status, seconds_so_far
from rlhfc.run.board import Row
from rlhfc.run.display import progress_text
from rlhfc.run.live import table
from rlhfc.run.meter import Meter, Reading
from rlhfc.run.outcome import RunOutcome, StageOutcome, State
from rlhfc.run.process import LocalLauncher
from rlhfc.run.run import Machine, this_machine_slots
from rlhfc.run.slots import Grant, Need, Slots
from rlhfc.run.summary import figures, telling_first
from rlhfc.run.verify import UnverifiedError, verify
from rlhfc.store.holder import Holder
from rlhfc.store.layout import Layout
from rlhfc.store.store import Store


def never() -> bool:
    """Say that nobody gives up."""
    return False


def test_gpus_are_handed_out_by_number():
    """Each stage gets GPUs of its own, the lowest free ones, and gives them back."""
    slots = Slots(4, (2, 5, 7))
    with slots.held(Need(0, 2), never) as first, slots.held(Need(0, 1), never) as second:
        assert (Grant(0, (2, 5)), Grant(0, (7,))) == (first, second)
    with slots.held(Need(0, 3), never) as all_of_them:
        assert Grant(0, (2, 5, 7)) == all_of_them


def test_slots_are_waited_for_in_turn():
    """A stage waits while another has the slots, and is told when its turn has come."""
    slots, got = Slots(2, ()), []

    def wait() -> None:
        with slots.held(Need(2, 0), never) as grant:
            got.append(grant)

    with slots.held(Need(1, 0), never):
        thread = threading.Thread(target=wait)
        thread.start()
        thread.join(0.3)
        assert [] == got
    thread.join(5)
    assert [Grant(2)] == got


def test_waiting_for_slots_can_be_given_up():
    """A stop while a stage waits gives it nothing, and takes it out of the queue."""
    slots = Slots(1, ())
    with slots.held(Need(1, 0), never), slots.held(Need(1, 0), lambda: True) as nothing:
        assert nothing is None
    with slots.held(Need(9, 0), never) as everything:
        assert Grant(1) == everything


@pytest.mark.parametrize(
    ("gpus", "visible", "devices"),
    [(0, None, ()), (2, None, (0, 1)), (2, "3,1", (3, 1)), (2, "GPU-abc,GPU-def", (0, 1)), (0, "", ())],
)
def test_visible_gpus_keep_their_numbers(gpus, visible, devices):
    """`deepspeed --include` wants the machine's numbers, those in `CUDA_VISIBLE_DEVICES`."""
    machine = this_machine_slots(gpus, visible)
    assert devices == machine.devices
    assert isinstance(machine, Machine)
    assert machine.cpus >= 1


def test_tail_shows_what_people_need(tmp_path):
    """The tail drops the launcher's lines, control sequences and all but the last state of a bar."""
    log = tmp_path / "log"
    log.write_bytes(
        b"[2026-01-01 00:00:00,000] [INFO] [launch.py:1:main] noise\n\n"
        b"\x1b[31mred\x1b[0m \xff\n10%\r 50%\r100% done\r\nlast without newline"
    )
    assert ["red \ufffd", "100% done", "last without newline"] == logs.tail(log, 20, noise=False)
    assert ["last without newline"] == logs.tail(log, 1)
    assert [] == logs.tail(tmp_path / "missing", 5)


def test_log_reader_yields_whole_lines_once(tmp_path):
    """A reader that follows a log gives each line once, when its newline has come."""
    log = tmp_path / "log"
    reader = logs.LogReader(log)
    assert [] == reader.new_lines()
    with log.open("w") as stream:
        print("one\ntw", end="", file=stream, flush=True)
        assert ["one"] == reader.new_lines()
        print("o\n", end="", file=stream, flush=True)
        assert ["two"] == reader.new_lines()
    assert [] == reader.new_lines()


def test_progress_comes_from_the_metrics(tmp_path):
    """Step, newest loss, speed and time left, from the last lines; samples and torn lines do not count."""
    lines = [
        {"step": 10, "total": 100, "phase": "train", "loss": 2.5, "samples_per_second": 51.24},
        {"step": 10, "total": 100, "phase": "eval", "eval_loss": 2.0},
        {"step": 10, "total": 100, "phase": "sample", "loss": 9.0},
    ]
    text = "".join(json.dumps(line) + "\n" for line in lines)
    (tmp_path / "metrics.jsonl").write_text(text + '{"step": 11, "lo')
    now = iter([0.0, 10.0])
    meter, row = Meter(lambda: next(now)), Row("a", "sft", State.RUNNING, work=tmp_path, started=0.0)
    assert Reading(10, 100, ("loss", 2.5), "51.2 samples/s") == meter.read(row)
    (tmp_path / "metrics.jsonl").write_text(
        text + '{"step": 20, "total": 100, "phase": "train", "loss": 1.5}\n'
    )
    reading = meter.read(row)
    assert Reading(20, 100, ("loss", 1.5), "51.2 samples/s", 80.0) == reading
    assert "step 20/100 20 %, loss 1.5, 51.2 samples/s, 1 min 20 s left" == progress_text(reading)


def test_live_table_has_a_row_for_each_stage(tmp_path):
    """The live table is legible without colour: sign, state, steps, figure, why."""
    (tmp_path / "metrics.jsonl").write_text('{"step": 5, "total": 10, "loss": 2.0}\n')
    rows = [
        Row("split", "data_split", State.CACHED),
        Row("sft", "sft", State.RUNNING, work=tmp_path, started=0.0, seconds=61.0, resumed_at=3),
        Row("reward", "reward", State.FAILED, detail="exited with status 1", started=0.0, seconds=2.0),
        Row("ppo", "ppo", State.BLOCKED, detail="reward"),
    ]
    console = Console(width=120, force_terminal=False, color_system=None)
    with console.capture() as captured:
        console.print(table(rows, Meter()))
    assert [
        ["=", "split", "cached"],
        ["▸", "sft", "running", "1", "min", "1", "s", "━" * 10, "5/10", "loss", "2", "resumed", "at", "3"],
        ["✗", "reward", "failed", "2", "s", "exited", "with", "status", "1"],
        ["-", "ppo", "blocked", "by", "reward"],
    ] == [line.split() for line in captured.get().splitlines()]


def manifest(folder, files: dict[str, bytes], **changes):
    """Write outputs and a manifest for them; return its path."""
    (folder / "out").mkdir()
    for name, data in files.items():
        (folder / "out" / name).write_bytes(data)
    listed = [{"path": name, "size": len(data)} for name, data in files.items()]
    text = {"format": 1, "action_key": "b3:k", "step": 3, "total": 3, "ports": {"out": listed}, "summary": {}}
    (folder / "outputs.json").write_text(json.dumps({**text, **changes}))
    return folder / "outputs.json"


def tensors(spans, size: int, extra: bytes = b"") -> bytes:
    """Make a safetensors file: a header with these offsets, and `size` bytes of data."""
    places = {
        f"t{n}": {"dtype": "U8", "shape": [], "data_offsets": list(span)} for n, span in enumerate(spans)
    }
    text = json.dumps({"__metadata__": {"format": "pt"}, **places}).encode() + extra
    return struct.pack("<Q", len(text)) + text + b"\0" * size


def test_whole_outputs_are_believed(tmp_path):
    """Outputs that agree with their manifest verify, and the summary comes with them."""
    files = {"m.safetensors": tensors([(0, 4), (4, 9)], 9, b"   "), "c.json": b"{}", "t.bin": b""}
    path = manifest(tmp_path, files, summary={"loss": 0.5})
    found = verify(path, "b3:k", {"out": tmp_path / "out"})
    assert ({"loss": 0.5}, 0) == (found.summary, found.ports["out"]["t.bin"])


@pytest.mark.parametrize(
    ("files", "changes", "message"),
    [
        ({}, {"action_key": "b3:other"}, "its outputs manifest is of another action"),
        ({}, {"step": 2}, "it stopped at step 2 of 3"),
        ({}, {"ports": {}}, "it made the ports [], not ['out']"),
        ({}, {"ports": {"out": [{"path": "../x", "size": 1}]}}, "lists '../x', no path inside the port"),
        ({}, {"ports": {"out": [{"path": "gone", "size": 1}]}}, "`out/gone` is not there"),
        ({}, {"ports": []}, "its outputs manifest is malformed"),
        ({}, {"summary": {"loss": [1]}}, "`loss` in its summary is neither a number nor text"),
        ({"c.json": b'{"a":'}, {}, "`out/c.json` is not JSON"),
        ({"m.safetensors": b"abc"}, {}, "`out/m.safetensors` is cut off"),
        ({"m.safetensors": struct.pack("<Q", 1 << 60) + b"{}"}, {}, "`out/m.safetensors` is cut off"),
        ({"m.safetensors": tensors([(0, 4)], 3)}, {}, "where its header says"),
        ({"m.safetensors": tensors([(0, 4), (3, 8)], 8)}, {}, "has tensors that overlap or leave a gap"),
        ({"m.safetensors": tensors([(4, 8)], 8)}, {}, "has tensors that overlap or leave a gap"),
        ({"m.safetensors": tensors([("x", 8)], 8)}, {}, "has a header that cannot be read"),
    ],
)
def test_outputs_that_disagree_are_not_believed(tmp_path, files, changes, message):
    """Each way in which outputs and manifest can disagree is named."""
    path = manifest(tmp_path, files, **changes)
    with pytest.raises(UnverifiedError) as refused:
        verify(path, "b3:k", {"out": tmp_path / "out"})
    assert message in str(refused.value)


@pytest.mark.parametrize(
    ("command", "returncode", "said"),
    [
        (["true"], 0, ""),
        (["sh", "-c", "echo out; echo err >&2; exit 75"], 75, "out\nerr\n"),
        (["sh", "-c", "kill -9 $$"], -9, ""),
        (["no-such-command"], 127, "error: cannot start `no-such-command`: No such file or directory\n"),
    ],
)
def test_guard_tells_how_a_command_ended(tmp_path, command, returncode, said):
    """Exit status or signal of the command itself, and both its streams in the log."""
    found = LocalLauncher().start(command, {}, tmp_path, {}).wait()
    assert (returncode, (), said) == (found.returncode, found.survivors, (tmp_path / "log").read_text())


def test_killed_guard_is_noticed(tmp_path):
    """When the guard itself is killed nobody saw the end, and that is what is said."""
    session = LocalLauncher().start(["sleep", "1000"], {}, tmp_path, {})
    wait_for(lambda: session.identity.lives())
    os.kill(session.identity.pid, signal.SIGKILL)
    assert session.wait().returncode is None


def test_lock_of_another_is_waited_for_or_left(tmp_path):
    """A key that is held is announced once while waiting; who only wants it if it is free goes on."""
    locks, me, waits, done = Store.create(tmp_path).locks, Holder.me("r1"), [], []

    def take() -> None:
        with locks.key("b3:k", me, never, waits.append):
            done.append(1)

    with locks.free_key("b3:k", me) as mine:
        assert mine is not None
        thread = threading.Thread(target=take)
        thread.start()
        wait_for(lambda: waits)
        with locks.free_key("b3:k", me) as other:
            assert other is None
    thread.join(5)
    assert ([me.words()], [1]) == (waits, done)


@pytest.mark.parametrize(
    ("states", "interrupted", "status"),
    [
        (["done", "cached"], False, 0),
        (["done", "failed"], False, 1),
        (["failed", "blocked"], True, 130),
        (["interrupted", "waiting"], True, 130),
        (["interrupted", "blocked"], False, 130),
        (["interrupted", "failed"], False, 1),
        (["done", "done"], True, 0),
    ],
)
def test_exit_status(states, interrupted, status):
    """0 when all is done, 130 when stopped before that, else 1."""
    stages = {str(n): StageOutcome(str(n), "toy", State(state)) for n, state in enumerate(states)}
    assert status == RunOutcome("r", "p", stages, interrupted, 1.0).exit_status


def test_telling_figures_come_first():
    """Of many figures the table has those that a stage is judged by, and ends of intervals last."""
    summary = {
        "dropped": 0,
        "eval_loss": 2.094567,
        "win_rate_rule_low": 0.7,
        "win_rate_rule": 0.8,
        "note": "x",
    }
    assert "win_rate_rule 0.8, eval_loss 2.095, dropped 0" == figures(summary, 3)
    assert "win_rate_rule_low" == telling_first(summary)[-1]


@pytest.mark.parametrize("name", ["../../etc/x", "a/b", "..", "ünï code"])
def test_report_stays_in_the_store(tmp_path, name):
    """Whatever a pipeline is called, its report lies in `reports/`."""
    path = Layout(tmp_path).report(name)
    assert tmp_path / "reports" == path.parent
    assert path.name not in (".html", "..html")


def test_time_of_attempts_so_far(tmp_path):
    """What one result takes: attempts after the last that was done, one without an end to its last sign."""

    def tried(number: int, state: str, started: str, ended: str | None) -> Attempt:
        attempt = Attempt(tmp_path / "attempts" / f"{number:03d}")
        attempt.folder.mkdir(parents=True)
        day = "2026-03-01T10:{}+00:00"
        until = day.format(ended) if ended else None
        attempt.write_status(Status("p", "s", "b3:1", "r", state, day.format(started), ended=until))
        return attempt

    assert 0.0 == seconds_so_far(tmp_path)
    tried(1, "failed", "00:00", "05:00")
    tried(2, "done", "06:00", "16:00")
    tried(3, "interrupted", "20:00", "20:30")
    killed = tried(4, "running", "30:00", None)
    killed.log.write_text("step 7\n")
    moment = datetime(2026, 3, 1, 10, 32, tzinfo=UTC).timestamp()
    os.utime(killed.log, (moment, moment))
    assert 150.0 == seconds_so_far(tmp_path)


def test_end_of_a_command_that_cannot_be_read_is_an_error_of_its_own(tmp_path):
    """A guard whose word on its command cannot be read is not said to be killed."""
    (tmp_path / "exit.json").mkdir()
    session = LocalLauncher().start(["true"], {}, tmp_path, {})
    with pytest.raises(OSError, match=r"exit\.json"):
        session.wait()
