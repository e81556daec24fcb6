"""One flipped bit in a file that rlhfc keeps about runs: no command believes it, and none breaks down."""

import random
import shutil
from pathlib import Path

import pytest
from damage import write
from workshop import Bench

from rlhfc.cli.main import main
from rlhfc.run.attempt import Attempt, key_of
from rlhfc.store.checkpoints import newest_checkpoint
from rlhfc.store.tags import read_tag
from rlhfc.upkeep.quota import read_quota

FLIPS = 16  # in each file
COMMANDS = (("plan", "{spec}"), ("status", "{spec}"), ("history",), ("gc", "--plan", "--grace", "0"))
READERS = {
    "work/slow-*/key.json": lambda path: key_of(path.parent),
    "work/slow-*/attempts/001/status.json": lambda path: Attempt(path.parent).status(),
    "work/slow-*/attempts/001/checkpoints/step-000002/COMPLETE.json": lambda path: newest_checkpoint(
        path.parents[4], key_of(path.parents[4])
    ),
    "tags/best.json": read_tag,
    "quota.json": lambda path: read_quota(type("Layout", (), {"root": path.parent})),
}


@pytest.fixture(scope="module")
def bench(tmp_path_factory) -> Bench:
    """A store with a tag, a quota, and a stage that was killed when it had saved."""
    bench = Bench(tmp_path_factory.mktemp("lived-in"))
    bench.write(a={"value": 1}, slow={"value": 2, "left": "a.thing", "steps": 40, "step_seconds": 0.1})
    bench.kill_when(lambda: "slow step-3" in bench.trace())
    key = bench.store().last_key("toys", "a")
    for command in (["tag", "best", "--key", key], ["gc", "--quota", "1GB"]):
        assert 0 == main([*command, "--store", str(bench.folder / "store")])
    for newer in (bench.folder / "store").glob("work/slow-*/attempts/001/checkpoints/*"):
        if newer.name not in ("step-000001", "step-000002"):
            shutil.rmtree(newer)
    return bench


@pytest.mark.parametrize("kept", READERS)
def test_a_flipped_bit_is_never_believed(bench, kept, capsys):
    """The file says what it said or nothing; commands end with 0 or a mistake that they tell."""
    (path,) = (bench.folder / "store").glob(kept)
    whole, believed, chance = path.read_bytes(), READERS[kept](path), random.Random(kept)
    otherwise = (1, 40) if "step-000002" in kept else None  # the checkpoint before, or nothing
    assert believed not in (None, otherwise)
    for _ in range(FLIPS):
        place, bit = chance.randrange(len(whole)), chance.randrange(8)
        write(path, whole[:place] + bytes([whole[place] ^ 1 << bit]) + whole[place + 1 :])
        assert READERS[kept](path) in (believed, otherwise), (place, bit)
        for command in COMMANDS:
            words = [word.format(spec=bench.spec) for word in command]
            assert main([*words, "--store", str(bench.folder / "store")]) in (0, 1), (place, bit, words)
        assert "Traceback" not in capsys.readouterr().err
    write(path, whole)
    assert believed == READERS[kept](path)


def test_white_space_and_older_files_are_read(bench):
    """A file without a checksum is one of an earlier version; how it is laid out does not matter."""
    path = next(Path(bench.folder / "store").glob("work/slow-*/key.json"))
    whole, key = path.read_text(), key_of(path.parent)
    crc = whole.index('"crc":')
    write(path, (whole[:crc] + whole[crc + len('"crc":"00000000",') :]).replace(",", " ,\n ").encode())
    assert key == key_of(path.parent)
    write(path, whole.encode())
