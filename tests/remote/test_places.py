"""What every kind of shared store promises."""

import os
import socket
import threading

import pytest

from rlhfc.errors import UserError
from rlhfc.remote import steady
from rlhfc.remote.opening import open_place, shown
from rlhfc.remote.place import FolderPlace, PassingError, RemoteError
from rlhfc.remote.steady import SteadyPlace


def test_reads_back_what_was_put(place, tmp_path):
    """Files are read in parts, an end beyond theirs gives what there is, and sizes are told."""
    (tmp_path / "file").write_bytes(b"0123456789")
    place.send(tmp_path / "file", "objects/ab/c")
    place.replace("trees/ab/c.json", b"")
    found = [place.read("objects/ab/c", *part) for part in ((0, 4), (4, 8), (8, 12), (0, 100))]
    assert [b"0123", b"4567", b"89", b"0123456789"] == found
    assert b"" == place.read("trees/ab/c.json", 0, 10)
    assert (10, 0) == (place.size("objects/ab/c"), place.size("trees/ab/c.json"))


def test_what_is_not_there(place):
    """A missing file has no size, and reading it says that there is none; a missing folder is empty."""
    assert (None, []) == (place.size("objects/ab/c"), list(place.names("actions")))
    with pytest.raises(FileNotFoundError):
        place.read("objects/ab/c", 0, 10)


def test_first_to_create_wins(place):
    """Of eight at once that create one file, one does, and its bytes stay; `replace` replaces them."""
    won = []

    def create(number: int) -> None:
        if place.create("actions/ab/c.json", b"%d" % number):
            won.append(b"%d" % number)

    threads = [threading.Thread(target=create, args=(number,)) for number in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert won == [place.read("actions/ab/c.json", 0, 10)]
    place.replace("actions/ab/c.json", b"new")
    assert b"new" == place.read("actions/ab/c.json", 0, 10)


def test_names_are_relative(place):
    """Names below a folder come without it; drafts are elsewhere, and none is left."""
    for name in ("ab/1.json", "cd/2.json"):
        place.create(f"actions/{name}", b"x")
        place.replace(f"trees/{name}", b"x")
    assert ["ab/1.json", "cd/2.json"] == list(place.names("actions"))
    assert [] == list(place.names("parts"))


def refuses_all(nowhere, words: str) -> None:
    """Every method of a place that is not there raises, and says so in these words."""
    for ask in (
        lambda: nowhere.read("a", 0, 1),
        lambda: nowhere.create("a", b""),
        lambda: list(nowhere.names("a")),
    ):
        with pytest.raises(RemoteError, match=words):
            ask()


def test_missing_bucket_is_told(s3):
    """A bucket that is not there is an error in every method, and never an empty store."""
    refuses_all(open_place(s3.replace("//bucket", "//no-bucket")), "bucket")


def test_missing_folder_is_told(tmp_path):
    """A folder that is not there, as where nothing is mounted, is an error and never an empty store."""
    refuses_all(FolderPlace(tmp_path / "not" / "mounted"), "there is no folder")


def test_only_regular_files_of_a_folder_count(tmp_path):
    """Links, pipes and sockets in a shared folder are no files: none is followed, none is waited for."""
    place, folder = FolderPlace(tmp_path), tmp_path / "rlhfc-1" / "objects"
    folder.mkdir(parents=True)
    (tmp_path / "secret").write_text("secret")
    (folder / "link").symlink_to(tmp_path / "secret")
    os.mkfifo(folder / "pipe")
    (folder / "folder").mkdir()
    with socket.socket(socket.AF_UNIX) as server:
        server.bind(str(folder / "socket"))
        for name in ("link", "pipe", "folder", "socket"):
            assert place.size(f"objects/{name}") is None
            with pytest.raises((FileNotFoundError, RemoteError)):
                place.read(f"objects/{name}", 0, 10)


def test_stale_parts_of_a_folder_go(tmp_path):
    """What a killed upload left a week ago goes with the next write; what may still grow stays."""
    parts = tmp_path / "rlhfc-1" / "parts"
    parts.mkdir(parents=True)
    for name in ("old", "young"):
        (parts / name).write_text("half")
    os.utime(parts / "old", (1, 1))
    FolderPlace(tmp_path).replace("trees/a.json", b"[]")
    assert ["young"] == [path.name for path in parts.iterdir()]


class Failing:
    """A place that fails a number of times."""

    name = "failing"

    def __init__(self, times: int, error: Exception) -> None:
        self.times, self.error, self.asked = times, error, 0

    def read(self, path, start, end):
        """Fail, or give one byte."""
        self.asked += 1
        if self.asked <= self.times:
            raise self.error
        return b"x"


def test_passing_failures_are_tried_again():
    """Three failures in a row are outlasted with growing pauses; a fourth is told."""
    pauses: list[float] = []
    outlasted = Failing(3, PassingError("busy"))
    assert b"x" == SteadyPlace(outlasted, pauses.append).read("a", 0, 1)
    assert 3 == len(pauses)
    assert all(0.5 <= pause / (steady.FIRST_WAIT_SECONDS * 2**n) <= 1.5 for n, pause in enumerate(pauses))
    with pytest.raises(PassingError):
        SteadyPlace(Failing(4, PassingError("busy")), pauses.append).read("a", 0, 1)


@pytest.mark.parametrize("error", [RemoteError("not allowed"), FileNotFoundError("a")])
def test_lasting_failures_are_not_tried_again(error):
    """What people must mend, and what is not there, is told at once."""
    place = Failing(1, error)
    with pytest.raises(type(error)):
        SteadyPlace(place, lambda _: None).read("a", 0, 1)
    assert 1 == place.asked


def test_credentials_are_not_shown():
    """A URL is told without what stands before its `@`."""
    assert "sftp://host/a" == shown("sftp://user:password@host/a")
    assert "s3://bucket/team" == shown("s3://bucket/team")


@pytest.mark.parametrize("url", ["nosuch://a", "github://a"])
def test_url_that_cannot_be_used_is_refused(url):
    """A protocol that nobody speaks is a mistake of the user's, with a hint."""
    with pytest.raises(UserError) as refused:
        open_place(url)
    assert refused.value.diagnostics[0].hint
