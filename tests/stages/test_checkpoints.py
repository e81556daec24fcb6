"""Which checkpoints count, and which are refused."""

import json
from types import SimpleNamespace

import pytest
import torch
from rlhfc.stages.common import checkpoints
from rlhfc.stages.common.job import StageError
from rlhfc.stages.common.ranks import Ranks

ALONE = Ranks(0, 1, torch.device("cpu"))


def engine(zero_stage):
    """What the layout is read from."""
    return SimpleNamespace(zero_optimization_stage=lambda: zero_stage)


def complete(root, step, ranks=1, zero_stage=0, **changes):
    """A complete checkpoint with one file."""
    folder = root / f"step-{step:06d}"
    folder.mkdir(parents=True)
    (folder / "state.json").write_text("{}")
    record = {"format": 2, "step": step, "total": 9, "ranks": ranks, "zero_stages": {"train": zero_stage}}
    record["files"] = [{"path": "state.json", "size": 2}]
    (folder / "COMPLETE.json").write_text(json.dumps(record | changes))
    return folder


def test_only_complete_checkpoints_count(tmp_path):
    """One without its record, one with a file cut short and one of another format are as if not there."""
    complete(tmp_path, 1)
    (complete(tmp_path, 2) / "COMPLETE.json").unlink()
    (complete(tmp_path, 3) / "state.json").write_text("")
    complete(tmp_path, 4, format=1)
    (complete(tmp_path, 5) / "COMPLETE.json").write_text("{")
    assert [1] == checkpoints.complete_steps(tmp_path)


def test_no_checkpoint_starts_from_the_beginning(tmp_path):
    """An empty folder, or one with nothing complete, loads nothing."""
    (complete(tmp_path, 2) / "COMPLETE.json").unlink()
    assert checkpoints.load_newest(tmp_path, {"train": engine(0)}, ALONE) is None


@pytest.mark.parametrize(("ranks", "zero_stage"), [(2, 0), (1, 3)])
def test_checkpoint_of_another_layout_is_refused_and_kept(tmp_path, ranks, zero_stage):
    """Shards that do not fit are neither dropped nor passed over: the error says both and both ways out."""
    folder = complete(tmp_path, 7, ranks=ranks, zero_stage=zero_stage)
    with pytest.raises(StageError) as raised:
        checkpoints.load_newest(tmp_path, {"train": engine(0)}, ALONE)
    saved = f"{ranks} rank{'s' if ranks > 1 else ''} with ZeRO train {zero_stage}"
    assert f"the checkpoint `step-000007` was saved by {saved}, and this is 1 rank with ZeRO train 0" == str(
        raised.value
    )
    assert f"run it as it was to go on, or remove `{tmp_path}` to start anew" == raised.value.hint
    assert folder.is_dir()
