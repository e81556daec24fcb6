"""Checkpoints of a stage: what is written when, which one counts, and what a fault leaves."""

import errno
import json
import os
import subprocess
import threading
from dataclasses import dataclass, field
from pathlib import Path
from types import SimpleNamespace

import pytest
import torch
from rlhfc.stages.common import checkpoints, saving, snapshots
from rlhfc.stages.common.checkpoints import Checkpoints
from rlhfc.stages.common.job import Interrupted
from rlhfc.stages.common.ranks import Ranks

from rlhfc.store.guarded import unguarded

ALONE = Ranks(0, 1, torch.device("cpu"))
KEY = "b3:" + "1" * 64


class Engine:
    """Saves and loads one tensor in the way in which DeepSpeed uses its checkpoint engine."""

    def __init__(self, size=4, zero_stage=0):
        self.weights = torch.zeros(size)
        self.module = SimpleNamespace(parameters=lambda: [torch.nn.Parameter(self.weights)])
        self.zero_stage, self.checkpoint_engine = zero_stage, None

    def zero_optimization_stage(self):
        """Its ZeRO stage."""
        return self.zero_stage

    def save_checkpoint(self, folder, tag, **_):
        """Hand its state to the plug-in."""
        self.checkpoint_engine.save({"weights": self.weights}, str(Path(folder) / tag / "shard.pt"))

    def load_checkpoint(self, folder, tag, **_):
        """Read its state back."""
        self.weights = torch.load(Path(folder) / tag / "shard.pt", weights_only=True)["weights"]


class Average:
    """A running mean: what a loop may keep besides its engines."""

    def __init__(self):
        self.state = {"mean": 0.0, "count": 0}

    def state_dict(self):
        """All of it; the caller copies."""
        return self.state

    def load_state_dict(self, state):
        """Be as it was."""
        self.state = state


@dataclass
class Stage:
    """What a loop does with its checkpoints, without the loop."""

    folder: Path
    key: str = KEY
    keep: int = 2
    size: int = 4
    engine: Engine = field(init=False)
    average: Average = field(default_factory=Average)
    beats: list[str] = field(default_factory=list)

    def __post_init__(self):
        self.root = self.folder / "checkpoints"
        self.root.mkdir(exist_ok=True)
        self.engine = Engine(self.size)
        job = SimpleNamespace(
            paths={"checkpoints": self.root, "stop_file": self.folder / "stop"},
            action_key=self.key,
            params=SimpleNamespace(keep_checkpoints=self.keep, seed=7, checkpoint_every=10),
            beat=lambda: self.beats.append(threading.current_thread().name),
        )
        self.checkpoints = Checkpoints(job, ALONE, {"train": self.engine}, 100, {"average": self.average})

    def save(self, *steps, best=None):
        """Take each step, and save it; complete when this returns."""
        for step in steps:
            self.engine.weights.fill_(step)
            self.average.state |= {"mean": step / 2, "count": step}
            self.checkpoints.save(step, best=best)
        self.checkpoints.finish()

    def there(self):
        """Names below the folder of checkpoints."""
        return sorted(path.name for path in self.root.iterdir())


@pytest.fixture
def stage(tmp_path):
    """A stage that has saved steps 10, 20 and 30, and keeps them."""
    made = Stage(tmp_path, keep=3)
    made.save(10, 20, 30)
    return made


def resumed(stage):
    """What the same stage finds in a new process: step, weights, mean."""
    again = Stage(stage.folder)
    step = again.checkpoints.resume()
    return step, again.engine.weights.tolist(), again.average.state


def test_resumes_with_all_that_was_saved(stage):
    """Engines and what the loop keeps besides are as they were at the newest step."""
    assert (30, [30.0] * 4, {"mean": 15.0, "count": 30}) == resumed(stage)


def test_nothing_saved_starts_from_the_beginning(tmp_path):
    """Step 0, and nothing is loaded."""
    assert 0 == Stage(tmp_path).checkpoints.resume()


def test_the_newest_are_kept(tmp_path):
    """As many as asked for; those before go once the new one is complete."""
    made = Stage(tmp_path, keep=2)
    made.save(10, 20, 999_990, 1_000_000)
    assert ["step-1000000", "step-999990"] == made.there()
    assert 1_000_000 == Stage(tmp_path).checkpoints.resume()


def test_checksum_of_a_record_is_that_of_the_store(stage):
    """With text beyond ASCII, as changes of the layout have it; and another step is not believed."""
    stage.checkpoints._changes.append("1 rank → 2 ranks at step 3")
    stage.save(40)
    data = (stage.root / "step-000040" / "COMPLETE.json").read_bytes()
    assert ["1 rank → 2 ranks at step 3"] == unguarded(data)["layout_changes"]
    with pytest.raises(ValueError, match="checksum"):
        unguarded(data.replace(b'"step": 40', b'"step": 41'))


def test_the_best_stays_as_long_as_a_newer_one_needs_it(tmp_path):
    """Besides the newest, the one that each of them names as the best so far."""
    made = Stage(tmp_path, keep=1)
    made.save(10, 20, 30, best=10)
    assert ["step-000010", "step-000030"] == made.there()
    made.save(40, best=40)
    made.save(50, 60, best=40)
    assert ["step-000040", "step-000060"] == made.there()


def test_engines_go_back_to_the_best(tmp_path):
    """Their weights only: what the loop keeps besides stays as it is."""
    made = Stage(tmp_path, keep=1)
    made.save(10, best=10)
    made.save(20, best=10)
    made.checkpoints.return_to(10)
    assert ([10.0] * 4, {"mean": 10.0, "count": 20}) == (made.engine.weights.tolist(), made.average.state)


def test_a_best_that_has_rotted_is_not_returned_to(tmp_path):
    """A byte that flipped since it was written is found before the weights are believed."""
    made = Stage(tmp_path, keep=1)
    made.save(10, 20, best=10)
    shard = made.root / "step-000010" / "train" / "shard.pt"
    data = bytearray(shard.read_bytes())
    data[len(data) // 2] ^= 1
    shard.write_bytes(data)
    with pytest.raises(OSError, match="a checkpoint is not as it was written") as raised:
        made.checkpoints.return_to(10)
    assert str(shard) == raised.value.filename


def test_what_fails_after_the_record_costs_no_checkpoint(tmp_path, monkeypatch):
    """An old checkpoint that cannot be removed stays whole or loses its name; the new one stands."""
    made = Stage(tmp_path, keep=1)
    made.save(10)

    def broken(path, ignore_errors=False):
        if not ignore_errors:
            raise OSError(errno.EIO, "Input/output error", str(path))

    with monkeypatch.context() as patched:
        patched.setattr(saving.shutil, "rmtree", broken)
        patched.setattr(checkpoints.shutil, "rmtree", broken)
        made.save(20)
    assert ["leaving-step-000010", "step-000020"] == made.there()
    assert 20 == resumed(made)[0]
    assert ["step-000020"] == made.there()


def test_an_old_record_that_is_torn_needs_nothing(tmp_path):
    """Only the newest was looked at before the launch: a later save must not fail over an older one."""
    made = Stage(tmp_path, keep=3)
    made.save(10, 20)
    (made.root / "step-000010" / "COMPLETE.json").write_text('{"form')
    made.save(30)
    assert ["step-000010", "step-000020", "step-000030"] == made.there()


def test_the_best_is_saved_whatever_the_cadence(tmp_path):
    """The weights that are to be left must be on disk."""
    made = Stage(tmp_path)
    made.checkpoints.after_step(11, best=11)
    made.checkpoints.after_step(12, best=11)
    made.checkpoints.finish()
    assert ["step-000011"] == made.there()


def test_record_lists_every_file(stage):
    """Format 3: step, layout, key; and path, size and digest of each file."""
    data = (stage.root / "step-000030" / "COMPLETE.json").read_bytes()
    assert "crc" in json.loads(data)
    record = unguarded(data)
    files = record.pop("files")
    assert {
        "format": 3,
        "key": KEY,
        "step": 30,
        "total": 100,
        "best": None,
        "ranks": 1,
        "zero_stages": {"train": 0},
        "device": "cpu",
        "layout_changes": [],
    } == record
    assert ["rank-0.pt", "train/shard.pt"] == [file["path"] for file in files]
    sizes = [(stage.root / "step-000030" / file["path"]).stat().st_size for file in files]
    assert sizes == [file["size"] for file in files]
    assert all(file["digest"].startswith("b3:") for file in files)


def test_what_was_never_completed_goes(stage):
    """A newer folder without a record is no checkpoint: what a kill in mid-save leaves."""
    (stage.root / "step-000030" / "COMPLETE.json").unlink()
    (stage.root / "universal-train").mkdir()
    assert 20 == resumed(stage)[0]
    assert ["step-000010", "step-000020"] == stage.there()


def test_an_empty_latest_decides_nothing(stage):
    """DeepSpeed's own pointer is neither written nor read."""
    (stage.root / "latest").touch()
    (stage.root / "step-000030" / "latest").touch()
    assert 30 == resumed(stage)[0]


def test_training_goes_on_while_a_checkpoint_is_written(stage, monkeypatch):
    """`save` returns before a byte is written, and later changes do not reach what is written."""
    gate = threading.Event()
    hold(monkeypatch, gate)
    stage.engine.weights.fill_(40)
    stage.checkpoints.save(40)
    assert not (stage.root / "step-000040" / "COMPLETE.json").exists()
    stage.engine.weights.fill_(-1)
    stage.average.state["mean"] = -1
    stage.checkpoints.after_step(41)
    gate.set()
    stage.checkpoints.finish()
    assert (40, [40.0] * 4, {"mean": 15.0, "count": 30}) == resumed(stage)


def hold(monkeypatch, gate):
    """Have the writer wait before each file."""
    write = snapshots.write_tensors

    def wait_and_write(path, value, beat):
        assert gate.wait(20)
        return write(path, value, beat)

    monkeypatch.setattr(saving, "write_tensors", wait_and_write)


def test_one_checkpoint_is_written_at_a_time(stage, monkeypatch):
    """The next save waits until the one before is complete."""
    gate = threading.Event()
    hold(monkeypatch, gate)
    stage.checkpoints.save(40)
    seen, idle = [], snapshots.Background.idle

    def let_go(self, patience):
        """Whoever waits gets what he waits for."""
        if patience and not gate.is_set():
            seen.append(stage.there())
            gate.set()
        return idle(self, patience)

    monkeypatch.setattr(snapshots.Background, "idle", let_go)
    stage.checkpoints.save(50)
    assert [["step-000010", "step-000020", "step-000030", "step-000040"]] == seen
    assert (stage.root / "step-000040" / "COMPLETE.json").exists()
    stage.checkpoints.finish()


def test_a_stop_is_answered_when_the_checkpoint_is_complete(stage):
    """Between checkpoints too; `Interrupted` says that it can be gone on from."""
    stage.checkpoints.after_step(31)
    assert "step-000031" not in stage.there()
    (stage.folder / "stop").touch()
    with pytest.raises(Interrupted):
        stage.checkpoints.after_step(32)
    assert (stage.root / "step-000032" / "COMPLETE.json").exists()


def test_what_is_written_and_loaded_shows_that_the_stage_gets_on(stage):
    """Each piece that the writer writes is a sign of life, so a long wait for it is no standstill."""
    assert {"MainThread", "checkpoint"} == set(stage.beats)
    again = Stage(stage.folder)
    again.checkpoints.resume()
    assert ["MainThread"] == again.beats


def test_checkpoints_are_due_at_their_cadence(stage):
    """Every tenth step here, complete at the latest at the end."""
    for step in range(31, 51):
        stage.checkpoints.after_step(step)
    stage.checkpoints.finish()
    assert ["step-000030", "step-000040", "step-000050"] == stage.there()


def fail(stage):
    """Save step 40; what its writing fails with."""
    stage.engine.weights.fill_(40)
    stage.checkpoints.save(40)
    with pytest.raises(OSError, match="No space") as raised:
        stage.checkpoints.finish()
    return raised.value


def test_a_writer_that_fails_is_told_at_the_next_step(stage, monkeypatch):
    """The training thread raises what the writer met: path and bytes; what was written of it goes."""
    monkeypatch.setattr(snapshots._Hashed, "write", no_space)
    failed = fail(stage)
    shard = stage.root / "step-000040" / "train" / "shard.pt"
    assert (errno.ENOSPC, str(shard)) == (failed.errno, failed.filename)
    assert "No space left on device, in writing a file of 16 bytes or more" == failed.strerror
    assert not shard.exists()
    assert (30, [30.0] * 4) == resumed(stage)[:2]


def no_space(self, data):
    """As a full disk has it."""
    self.error = OSError(errno.ENOSPC, "No space left on device")
    raise self.error


@pytest.fixture
def small_disk(tmp_path):
    """A file system of one MiB in memory."""
    folder = tmp_path / "small"
    folder.mkdir()
    mount = ["mount", "-t", "tmpfs", "-o", "size=1m", "none", str(folder)]
    if subprocess.run(mount, capture_output=True, check=False).returncode:
        pytest.skip("mounting takes a privilege that is not here")
    yield folder
    subprocess.run(["umount", str(folder)], check=True)


def test_a_full_disk_costs_the_new_checkpoint_only(small_disk):
    """On a file system that fills up in mid-save, the checkpoint before is whole and the room is freed."""
    stage = Stage(small_disk, keep=1, size=150_000)
    stage.save(10)
    failed = fail(stage)
    assert errno.ENOSPC == failed.errno
    assert str(small_disk / "checkpoints" / "step-000040" / "train" / "shard.pt") == failed.filename
    assert "in writing a file of 600,000 bytes or more" in str(failed)
    assert os.statvfs(small_disk).f_bavail * os.statvfs(small_disk).f_frsize > 400_000
    again = Stage(small_disk, keep=1, size=150_000)
    assert 10 == again.checkpoints.resume()
    assert ["step-000010"] == again.there()


def test_a_copy_shares_nothing_with_what_it_was_made_from():
    """Tensors, lists and mappings are new; tied weights stay tied; types and versions are kept."""
    tied = torch.arange(4.0)
    state = torch.nn.Linear(2, 2).state_dict()
    value = {"a": tied, "b": tied, "view": torch.arange(9.0)[2:4], "steps": [1, {"deep": 2}], "module": state}
    copied = snapshots.on_host(value)
    tied.fill_(-1)
    value["steps"][1]["deep"] = -1
    assert [0.0, 1.0, 2.0, 3.0] == copied["a"].tolist()
    assert copied["a"] is copied["b"]
    assert ([2.0, 3.0], 8) == (copied["view"].tolist(), copied["view"].untyped_storage().nbytes())
    assert [1, {"deep": 2}] == copied["steps"]
    assert (type(state), state._metadata) == (type(copied["module"]), copied["module"]._metadata)
