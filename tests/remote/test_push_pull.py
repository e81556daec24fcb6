"""Results that go to a shared store and come from it, whole or not at all."""

import os
import random
import signal
import subprocess
import sys
import threading
import time

import pytest
from team import FILES, Recording, contents, drafts, files_of, published

from rlhfc.remote import objects, pull
from rlhfc.remote.opening import open_place
from rlhfc.remote.place import FolderPlace, PassingError, RemoteError, action_path, blob_path, tree_path
from rlhfc.remote.pull import Finder
from rlhfc.remote.record import RefusedError
from rlhfc.store.digest import bytes_digest
from rlhfc.store.leases import Hold, LostLockError
from rlhfc.store.records import DamagedRecordError


def test_result_comes_as_it_went(team, place):
    """Another machine gets the same record, key document, metrics and bytes; a second pull moves nothing."""
    result = team.result("a")
    assert "pushed" == team.push("a", place, result)[0]
    tally = team.pull("b", place, result.key)
    here, there = team.store("a"), team.store("b")
    assert result == there.lookup(result.key)
    assert here.key_document(result.key) == there.key_document(result.key)
    assert FILES == contents(there, result)
    assert [{"step": 1, "total": 1}] == there.metrics(result)
    assert (4, 0, []) == (tally.moved, tally.there, drafts(there))
    assert (0, 4) == ((again := team.pull("b", place, result.key)).moved, again.there)


def test_second_push_sends_nothing(team, place):
    """What is there by name and size is not sent again."""
    result = team.result("a")
    first, second = team.push("a", place, result), team.push("a", place, result)
    assert ("pushed", 7, 0) == (first[0], first[1].moved, first[1].there)
    assert ("there already", 0, 6, 0) == (second[0], second[1].moved, second[1].there, second[1].bytes)


def test_order_of_a_push(team, tmp_path):
    """Blobs, then trees, then the key document, and the record last."""
    recording = Recording(FolderPlace(tmp_path))
    team.push("a", recording, team.result("a"))
    assert ["objects", "trees", "documents", "actions"] == recording.written()


def test_one_request_finds_or_misses_a_key(team, tmp_path):
    """To learn whether a key has a result is one request."""
    recording = Recording(FolderPlace(tmp_path))
    result = team.result("a")
    assert Finder(recording, None).find(result.key) is None
    team.push("a", recording, result)
    recording.asked.clear()
    assert Finder(recording, None).find(result.key) is not None
    assert [("read", action_path(result.key))] == recording.asked


def test_push_that_was_cut_off_goes_on(team, tmp_path):
    """After each possible failure no record is there before all else; the next push sends only the rest."""
    result = team.result("a")
    for number in range(7):
        folder = tmp_path / f"shared-{number}"
        folder.mkdir()
        recording, left = Recording(FolderPlace(folder)), [number]

        def fail(method, path, left=left):
            if method in ("send", "create", "replace"):
                left[0] -= 1
                if left[0] < 0:
                    raise PassingError("the line is dead")

        recording.before = fail
        with pytest.raises(PassingError):
            team.push("a", recording, result)
        sent = files_of(folder)
        assert not any(name.startswith("actions") for name in sent)
        told, tally = team.push("a", FolderPlace(folder), result)
        assert ("pushed", 7) == (told, tally.moved + len(sent))
        team.pull(f"b{number}", FolderPlace(folder), result.key)


def test_short_file_that_is_there_is_replaced(team, place, tmp_path):
    """A blob of another size does not count as there, so a push mends it."""
    result = team.result("a")
    team.push("a", place, result)
    blob = team.store("a").tree(result.outputs["thing"])[-1]
    place.replace(blob_path(blob.digest), b"half")
    with pytest.raises(RefusedError, match="announced"):
        team.pull("b", place, result.key)
    assert 1 == team.push("a", place, result)[1].moved
    team.pull("b", place, result.key)


def test_damaged_record_there_is_replaced(team, place):
    """A record that cannot be read stands for nothing: a push puts its own there."""
    result = team.result("a")
    place.replace(action_path(result.key), b"{")
    assert "pushed" == team.push("a", place, result)[0]
    team.pull("b", place, result.key)


def test_two_that_made_different_things(team, place):
    """Of two results under one key the first stays, and who comes second is told."""
    first, second = team.result("a"), team.result("b", files={"other": b"other"})
    assert ["pushed", "there with other outputs, which stay"] == [
        team.push("a", place, first)[0],
        team.push("b", place, second)[0],
    ]
    team.pull("c", place, first.key)
    assert first.outputs == team.store("c").lookup(first.key).outputs


def test_many_push_and_pull_at_once(team, place):
    """Four machines push the same results while four pull what they find: all end with all."""
    results = [team.result("a", value=value, files={**FILES, "own": b"%d" % value}) for value in range(3)]
    for machine in "bcd":
        for value in range(3):
            team.result(machine, value=value, files={**FILES, "own": b"%d" % value})
    failed: list[BaseException] = []

    def attempt(work) -> None:
        try:
            work()
        except BaseException as error:
            failed.append(error)

    def push(machine: str) -> None:
        for result in results:
            team.push(machine, place, team.store(machine).lookup(result.key))

    def pull_all(machine: str) -> None:
        deadline = time.monotonic() + 60
        for result in results:
            while Finder(place, None).find(result.key) is None and time.monotonic() < deadline:
                time.sleep(0.01)
            team.pull(machine, place, result.key)

    jobs = [lambda m=m: push(m) for m in "abcd"] + [lambda m=m: pull_all(m) for m in "wxyz"]
    threads = [threading.Thread(target=attempt, args=(job,)) for job in jobs]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert [] == failed
    assert [{**FILES, "own": b"%d" % value} for value in range(3)] == [
        contents(team.store("z"), team.store("z").lookup(result.key)) for result in results
    ]


def test_large_files_go_and_come_in_parts(team, s3, monkeypatch):
    """A file of many parts is uploaded as a multipart upload and fetched range by range, the same bytes."""
    monkeypatch.setattr(objects, "CHUNK", 5 * 1024 * 1024)
    monkeypatch.setattr(pull, "PART", 1024 * 1024)
    data = random.Random(0).randbytes(12 * 1024 * 1024 + 7)
    result, place = team.result("a", files={"model.bin": data}), open_place(s3)
    team.push("a", place, result)
    blob = blob_path(team.store("a").tree(result.outputs["thing"])[0].digest)
    etag = place._place._files.info(f"{s3.removeprefix('s3://')}/rlhfc-1/{blob}")["ETag"]
    assert etag.strip('"').endswith("-3")  # S3 counts the parts of an upload there
    recording = Recording(place)
    team.pull("b", recording, result.key)
    assert 13 == sum(asked == ("read", blob) for asked in recording.asked)
    assert {"model.bin": data} == contents(team.store("b"), result)


def test_rotten_blob_is_not_pushed(team, place):
    """What is no longer what was stored, although it has the size, is not sent, nor is a record."""
    result = team.result("a")
    blob = team.store("a").blob(team.store("a").tree(result.outputs["thing"])[-1].digest)
    blob.chmod(0o644)
    blob.write_bytes(blob.read_bytes()[:-1] + b"X")
    with pytest.raises(DamagedRecordError, match="is not what was stored"):
        team.push("a", place, result)
    assert [] == list(place.names("actions"))


def test_blob_that_may_not_be_sealed_counts(team, place, monkeypatch):
    """One that is here and whole, and another user's, is read and not fetched; the pull comes to an end."""
    result = team.result("a")
    team.push("a", place, result)
    there = team.store("b").blob(bytes_digest(FILES["model.bin"]))
    there.parent.mkdir()
    there.write_bytes(FILES["model.bin"])
    utime, fetch = os.utime, Finder.fetch

    def of_another(path, *times, **more):
        if isinstance(path, int):
            raise PermissionError
        utime(path, *times, **more)

    def fetched(finder, digest, *more):
        assert there != team.store("b").blob(digest)
        fetch(finder, digest, *more)

    monkeypatch.setattr(os, "utime", of_another)
    monkeypatch.setattr(Finder, "fetch", fetched)
    team.pull("b", place, result.key)
    assert result == team.store("b").lookup(result.key)


def test_pull_that_was_frozen_looks_again(team, place, monkeypatch):
    """A pull that lost the store's lock while it froze is no failure: what is there is looked at again."""
    result = team.result("a")
    team.push("a", place, result)
    looks = []

    def check(hold):
        looks.append(hold)
        if len(looks) == 1:
            raise LostLockError

    monkeypatch.setattr(Hold, "check", check)
    team.pull("b", place, result.key)
    assert (2, result) == (len(looks), team.store("b").lookup(result.key))


def test_disk_that_is_too_small(team, place, monkeypatch):
    """What does not fit is refused before the first byte, with both sizes."""
    result = team.result("a")
    team.push("a", place, result)
    usage = pull.shutil.disk_usage("/")._replace(free=5000)
    monkeypatch.setattr(pull.shutil, "disk_usage", lambda path: usage)
    with pytest.raises(RefusedError, match=r"needs 8\.0 kB, and .* has 5\.0 kB free"):
        team.pull("b", place, result.key)
    assert ([], []) == (published(team.store("b")), drafts(team.store("b")))


PULL = """
import resource, signal, sys
from rlhfc.cli.main import main
signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
resource.setrlimit(resource.RLIMIT_FSIZE, (4096, 4096))
sys.exit(main(sys.argv[1:]))
"""


def test_disk_that_fails_in_the_middle(team, tmp_path):
    """When the disk takes no more, pull says so and leaves no record and no draft; later it works."""
    (tmp_path / "shared").mkdir()
    place, result = FolderPlace(tmp_path / "shared"), team.result("a")
    team.push("a", place, result)
    store = team.store("b")
    command = ["pull", "--key", result.key, "--store", str(store.layout.root), "--from", place.name]
    ended = subprocess.run(
        [sys.executable, "-c", PULL, *command], capture_output=True, text=True, check=False
    )
    assert (1, f"error: {result.key}: not pulled: File too large\n") == (ended.returncode, ended.stderr)
    assert ([], []) == (published(store), drafts(store))
    team.pull("b", place, result.key)


@pytest.mark.parametrize("seed", range(2))
@pytest.mark.parametrize("url", ["folder", "s3"], indirect=True)
def test_push_killed_at_random_moments(team, url, place, seed):
    """However often a push is killed: no record without all else, and the last push completes it."""
    chance = random.Random(seed)
    files = {f"{number}": chance.randbytes(300_000) for number in range(30)}
    result = team.result("a", files=files)
    command = [sys.executable, "-m", "rlhfc", "push", "--store", str(team.store("a").layout.root)]
    hit = 0
    for enough in sorted(chance.sample(range(1, 33), 4)):  # 33 names, and the record
        process = subprocess.Popen(
            [*command, "--to", url],
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
            start_new_session=True,
        )
        while process.poll() is None and len(set(place.names(""))) < enough:
            time.sleep(0.002)
        os.killpg(process.pid, signal.SIGKILL)
        hit += process.wait() == -signal.SIGKILL
        if any(place.names("actions")):
            team.pull("early", place, result.key)
    assert hit >= 2
    team.push("a", place, result)
    team.pull("b", place, result.key)
    assert files == contents(team.store("b"), result)


def test_damage_there_is_told_by_name(team, place):
    """A blob or tree that has gone from the shared store is named, and nothing is published."""
    result = team.result("a")
    team.push("a", place, result)
    path = tree_path(result.outputs["thing"])
    place.replace(path, b"[]")
    with pytest.raises(RefusedError, match=f"`{path}` in `.*`: its digest does not agree"):
        team.pull("b", place, result.key)
    assert [] == published(team.store("b"))


def test_result_that_readers_would_refuse_is_not_pushed(team, place):
    """A summary with characters that cannot be shown is refused here, not on every other machine."""
    with pytest.raises(RefusedError, match="cannot be shown"):
        team.push("a", place, team.result("a", summary={"note": "\x1b[2J"}))
    assert [] == list(place.names("objects"))


def test_full_shared_folder_is_told(team, tmp_path):
    """A shared folder that cannot be written to is a lasting failure."""
    (tmp_path / "rlhfc-1").write_text("no folder")
    with pytest.raises(RemoteError):
        team.push("a", FolderPlace(tmp_path), team.result("a"))
