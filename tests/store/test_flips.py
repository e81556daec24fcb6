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

FLIPS = 8  # in each file, with all commands
COMMANDS = (
    ("plan", "{spec}"),
    ("status", "{spec}"),
    ("history",),
    ("gc", "--plan", "--grace", "0"),
    ("fsck",),
)
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


def flipped(data: bytes, bit: int) -> bytes:
    """The bytes with one bit changed."""
    place = bit // 8
    return data[:place] + bytes([data[place] ^ 1 << bit % 8]) + data[place + 1 :]


@pytest.mark.parametrize("kept", READERS)
def test_a_flipped_bit_is_never_believed(bench, kept):
    """Whichever it is: the file says what it said, or nothing."""
    (path,) = (bench.folder / "store").glob(kept)
    whole, believed = path.read_bytes(), READERS[kept](path)
    otherwise = (1, 40) if "step-000002" in kept else None  # the checkpoint before, or nothing
    assert believed not in (None, otherwise)
    found = set()
    for bit in range(8 * len(whole)):
        write(path, flipped(whole, bit))
        found.add(answer := READERS[kept](path))
        assert answer in (believed, otherwise), bit
    write(path, whole)
    assert otherwise in found


@pytest.mark.parametrize("kept", READERS)
def test_commands_outlive_a_flipped_bit(bench, kept, capsys):
    """They end with 0, or with a mistake that they tell; and fsck finds what is damaged."""
    (path,) = (bench.folder / "store").glob(kept)
    whole, believed, chance = path.read_bytes(), READERS[kept](path), random.Random(kept)
    for bit in [chance.randrange(8 * len(whole)) for _ in range(FLIPS)]:
        write(path, flipped(whole, bit))
        for command in COMMANDS:
            words = [word.format(spec=bench.spec) for word in command]
            status = main([*words, "--store", str(bench.folder / "store")])
            damaged = command == ("fsck",) and READERS[kept](path) != believed
            assert status in ((1,) if damaged else (0, 1)), (bit, words)
        assert "Traceback" not in capsys.readouterr().err
    write(path, whole)


def test_white_space_and_older_files_are_read(bench):
    """A file without a checksum is one of an earlier version; how it is laid out does not matter."""
    path = next(Path(bench.folder / "store").glob("work/slow-*/key.json"))
    whole, key = path.read_text(), key_of(path.parent)
    crc = whole.index('"crc":')
    write(path, (whole[:crc] + whole[crc + len('"crc":"00000000",') :]).replace(",", " ,\n ").encode())
    assert key == key_of(path.parent)
    write(path, whole.encode())
