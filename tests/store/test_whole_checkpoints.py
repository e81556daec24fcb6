"""Checkpoints as a plan and a run see them: which counts, and which is set aside."""

import json
import os

import pytest

from rlhfc.store.checkpoints import newest_checkpoint, set_damaged_aside
from rlhfc.store.digest import bytes_digest

KEY, OTHER = "b3:" + "1" * 64, "b3:" + "2" * 64


def checkpoint(work, step, key=KEY, **changes):
    """A complete checkpoint with one file of three bytes."""
    folder = work / "checkpoints" / f"step-{step:06d}"
    folder.mkdir(parents=True)
    (folder / "state.bin").write_bytes(b"abc")
    record = {"format": 3, "key": key, "step": step, "total": 100}
    record["files"] = [{"path": "state.bin", "size": 3, "digest": bytes_digest(b"abc")}]
    (folder / "COMPLETE.json").write_text(json.dumps(record | changes))
    return folder


def there(work):
    """Names of the folders of checkpoints."""
    return sorted(path.name for path in (work / "checkpoints").iterdir())


def quarantined(root):
    """Path and reason of all that is in quarantine, in the order of the paths; each is there."""
    found = []
    for why in root.glob("quarantine/*/why.json"):
        for file in json.loads(why.read_text())["files"]:
            assert (why.parent / file["path"]).exists()
            found.append((file["path"], file["why"]))
    return sorted(found)


def test_the_newest_complete_one_counts(tmp_path):
    """One that lacks a file or bytes, is of another format or action, or has no record, does not."""
    assert newest_checkpoint(tmp_path, KEY) is None
    for step in (10, 20, 30):
        checkpoint(tmp_path, step)
    os.truncate(checkpoint(tmp_path, 40) / "state.bin", 2)
    (checkpoint(tmp_path, 50) / "state.bin").unlink()
    checkpoint(tmp_path, 60, format=2)
    checkpoint(tmp_path, 70, key=OTHER)
    (checkpoint(tmp_path, 80) / "COMPLETE.json").unlink()
    assert (30, 100) == newest_checkpoint(tmp_path, KEY)


def test_newest_is_by_number(tmp_path):
    """Also when the number outgrows the name."""
    checkpoint(tmp_path, 999_999)
    checkpoint(tmp_path, 1_000_000)
    assert (1_000_000, 1_000_000) == newest_checkpoint(tmp_path, KEY)


DAMAGE = {
    "flip": (
        lambda folder: (folder / "state.bin").write_bytes(b"abd"),
        "the bytes of `state.bin` are not those written",
    ),
    "cut": (lambda folder: os.truncate(folder / "state.bin", 1), "`state.bin` has 1 bytes instead of 3"),
    "gone": (lambda folder: (folder / "state.bin").unlink(), "`state.bin` is missing"),
    "renamed": (
        lambda folder: (folder / "COMPLETE.json").write_text(
            (folder / "COMPLETE.json").read_text().replace('"step": 30', '"step": 20')
        ),
        "`COMPLETE.json` is that of another step",
    ),
    "record": (lambda folder: os.truncate(folder / "COMPLETE.json", 0), "`COMPLETE.json` cannot be read"),
}


@pytest.mark.parametrize("what", DAMAGE)
def test_damaged_ones_are_set_aside(tmp_path, what):
    """Those newer than the newest sound one, with the reason; older ones are not looked at."""
    damage, why = DAMAGE[what]
    for step in (10, 20, 30):
        checkpoint(tmp_path, step)
    damage(tmp_path / "checkpoints" / "step-000030")
    damage(tmp_path / "checkpoints" / "step-000010")
    said = [f"checkpoint `step-000030` is damaged: {why}; moved to quarantine"]
    assert said == list(set_damaged_aside(tmp_path, tmp_path, KEY))
    assert ["step-000010", "step-000020"] == there(tmp_path)
    assert [("checkpoints/step-000030", why)] == quarantined(tmp_path)
    assert [] == list(set_damaged_aside(tmp_path, tmp_path, KEY))


def test_when_all_are_damaged_none_stays(tmp_path):
    """Each has a place of its own in quarantine, also a second one of the same step."""
    for _ in range(2):
        for step in (10, 20):
            os.truncate(checkpoint(tmp_path, step) / "state.bin", 1)
        assert 2 == len(list(set_damaged_aside(tmp_path, tmp_path, KEY)))
    assert [] == there(tmp_path)
    assert ["checkpoints/step-000010"] * 2 + ["checkpoints/step-000020"] * 2 == [
        path for path, _ in quarantined(tmp_path)
    ]


@pytest.mark.parametrize("what", ["cut", "gone", "record"])
def test_one_that_needs_a_damaged_one_does_not_count(tmp_path, what):
    """Step 30 names step 20 as the best so far: without that, its stage could not end as it must."""
    checkpoint(tmp_path, 10)
    checkpoint(tmp_path, 30, best=20)
    best = checkpoint(tmp_path, 20, best=20)
    assert (30, 100) == newest_checkpoint(tmp_path, KEY)
    damage, why = DAMAGE[what]
    damage(best)
    assert (10, 100) == newest_checkpoint(tmp_path, KEY)
    said = list(set_damaged_aside(tmp_path, tmp_path, KEY))
    assert said == [
        "checkpoint `step-000030` is damaged: `step-000020`, whose weights are the best, is no longer whole: "
        f"{why}; moved to quarantine",
        f"checkpoint `step-000020` is damaged: {why}; moved to quarantine",
    ]
    assert ["step-000010"] == there(tmp_path)


def test_others_are_set_aside_too(tmp_path):
    """Of another action or format; a folder without a record is the stage's to clear away."""
    checkpoint(tmp_path, 10, key=OTHER)
    checkpoint(tmp_path, 20, format=2)
    (checkpoint(tmp_path, 30) / "COMPLETE.json").unlink()
    assert [
        "checkpoint `step-000020` is damaged: format 2, and this is 3; moved to quarantine",
        "checkpoint `step-000010` is damaged: it belongs to another action; moved to quarantine",
    ] == list(set_damaged_aside(tmp_path, tmp_path, KEY))
    assert ["step-000030"] == there(tmp_path)
