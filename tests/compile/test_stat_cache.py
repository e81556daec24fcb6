"""Digests of files and folders, and when the cache may be believed."""

from __future__ import annotations

import os
from collections.abc import Callable
from pathlib import Path

import pytest

from rlhfc.compile import digests
from rlhfc.compile.digests import CachedDigester
from rlhfc.errors import UserError
from rlhfc.store.digest import canonical_json

Write = Callable[[str, str], Path]
OLD = 10_000_000_000


@pytest.fixture
def hashed(monkeypatch: pytest.MonkeyPatch) -> list[Path]:
    """Names of the files whose bytes were read."""
    read: list[Path] = []
    honest = digests.file_digest

    def spy(path: Path) -> str:
        read.append(path)
        return honest(path)

    monkeypatch.setattr(digests, "file_digest", spy)
    return read


def later() -> int:
    """A clock that stands far enough behind every file of the test."""
    return 2**62


def test_canonical_encoding() -> None:
    """Golden vector: sorted keys, no white space, UTF-8, shortest floats, no rounding of integers."""
    value = {"b": [1, 1.0, 1e-5, True, None, 10**20], "a": 'é\n"', "A": {}}
    assert (
        b'{"A":{},"a":"\xc3\xa9\\n\\"","b":[1,1.0,1e-05,true,null,100000000000000000000]}'
        == canonical_json(value)
    )


def test_tree_digest_of_a_folder(write: Write, tmp_path: Path) -> None:
    """Golden vector; hidden files and bytecode are no part of it, a link is what it leads to."""
    write("tree/b/c.txt", "cc")
    write("tree/a.txt", "")
    expected = "b3:2c4564bfe02834933ccc01fd88c41ca6d7ec44595a7037f660ee237470e51b38"
    assert expected == CachedDigester().folder(tmp_path / "tree")
    write("tree/.git/HEAD", "x")
    write("tree/.hidden", "x")
    write("tree/b/__pycache__/c.pyc", "x")
    assert expected == CachedDigester().folder(tmp_path / "tree")
    (tmp_path / "tree/b/c.txt").unlink()
    (tmp_path / "tree/b/c.txt").symlink_to(write("elsewhere", "cc"))
    assert expected == CachedDigester().folder(tmp_path / "tree")


def test_blob_digest_of_a_file(write: Write) -> None:
    """Golden vector: plain BLAKE3 of the bytes."""
    expected = "b3:6437b3ac38465133ffb63b75273a8db548c558465d79db03fd359c6cd5bd9d85"
    assert expected == CachedDigester().file(write("a", "abc"))


def test_unchanged_files_are_not_read_again(write: Write, tmp_path: Path, hashed: list[Path]) -> None:
    """The cache outlives the process in its file and knows a file by size, times and inode."""
    path = write("a", "abc")
    cache = tmp_path / "cache.json"
    for _ in range(2):
        digester = CachedDigester(cache, later)
        digester.file(path)
        digester.save()
    assert [path] == hashed


@pytest.mark.parametrize("edit", ["content", "time", "inode"])
def test_changed_files_are_read_again(edit: str, write: Write, tmp_path: Path, hashed: list[Path]) -> None:
    """Whatever a stamp shows of a change makes the entry worthless."""
    path = write("a", "abc")
    digester = CachedDigester(None, later)
    digester.file(path)
    if edit == "content":
        path.write_text("abcd")
    elif edit == "time":
        os.utime(path, ns=(OLD, OLD))
    else:
        copy = write("copy", "abc")
        os.utime(copy, ns=(path.stat().st_atime_ns, path.stat().st_mtime_ns))
        copy.replace(path)
    digester.file(path)
    assert [path, path] == hashed


def test_a_young_file_is_not_remembered(write: Write, hashed: list[Path]) -> None:
    """A file less than two seconds old may change again within one time stamp, so its entry is not kept."""
    path = write("a", "abc")
    written = max(path.stat().st_mtime_ns, path.stat().st_ctime_ns)
    for age, reads in ((0, 3), (2_000_000_000, 3), (2_000_000_001, 1)):
        hashed.clear()
        digester = CachedDigester(None, lambda age=age: written + age)
        digester.file(path)
        digester.save()
        digester.file(path)
        digester.file(path)
        assert reads == len(hashed), age


def test_no_byte_is_read_twice_for_one_plan(write: Write, hashed: list[Path]) -> None:
    """Until the plan is made, a file that several stages read is read once, however young it is."""
    path = write("a", "abc")
    digester = CachedDigester(None, lambda: path.stat().st_mtime_ns)
    digester.file(path)
    digester.file(path)
    assert [path] == hashed
    path.write_text("abcd")
    digester.file(path)
    assert [path, path] == hashed


def test_rehash_reads_everything(write: Write, tmp_path: Path, hashed: list[Path]) -> None:
    """With it, what the cache holds does not count."""
    path = write("a", "abc")
    for rehash in (False, False, True):
        digester = CachedDigester(tmp_path / "cache.json", later, rehash=rehash)
        digester.file(path)
        digester.save()
    assert [path, path] == hashed


@pytest.mark.parametrize(("kind", "reads"), [("ext4", 1), ("nfs4", 2), ("fuse.sshfs", 2), ("lustre", 2)])
def test_time_stamps_of_a_network_prove_nothing(
    kind: str, reads: int, write: Write, tmp_path: Path, hashed: list[Path]
) -> None:
    """There a small file is read each time; a large one is believed, and named."""
    path = write("a", "abc")
    large = tmp_path / "large"
    with large.open("wb") as stream:
        stream.truncate(digests.SMALL + 1)
    for _ in range(2):
        digester = CachedDigester(tmp_path / "cache.json", later, type_of=lambda _: kind)
        digester.file(path)
        digester.file(large)
        digester.save()
    assert (reads, 1) == (hashed.count(path), hashed.count(large))
    assert ({} if kind == "ext4" else {str(large): kind}) == digester.believed


def test_a_file_that_changes_meanwhile(write: Write, monkeypatch: pytest.MonkeyPatch) -> None:
    """A digest of half old and half new bytes is never given out."""
    path = write("a", "abc")
    monkeypatch.setattr(digests, "file_digest", lambda file: file.write_text("abcdef") and "b3:00")
    with pytest.raises(UserError, match="changes while it is read"):
        CachedDigester().file(path)


@pytest.mark.parametrize("content", ["", "[]", "{}", '{"format": 0}', '{"format": 2, "entries": 3}'])
def test_a_damaged_cache_is_no_cache(content: str, write: Write) -> None:
    """The cache is disposable: whatever lies in its place, the digest is right."""
    digester = CachedDigester(write("cache.json", content))
    assert "b3:6437b3ac" == digester.file(write("a", "abc"))[:11]


def test_no_store_no_cache(write: Write, tmp_path: Path) -> None:
    """Nothing is written where the store's folder does not exist."""
    digester = CachedDigester(tmp_path / "store" / "cache.json", later)
    digester.file(write("a", "abc"))
    digester.save()
    assert ["a"] == [path.name for path in tmp_path.iterdir()]


def test_folders_that_cannot_be_digested(tmp_path: Path) -> None:
    """An empty folder, a link to nowhere and a missing file are errors; a linked circle ends."""
    (tmp_path / "empty").mkdir()
    with pytest.raises(UserError, match="holds no file"):
        CachedDigester().folder(tmp_path / "empty")
    (tmp_path / "empty" / "again").symlink_to(tmp_path / "empty")
    with pytest.raises(UserError, match="holds no file"):
        CachedDigester().folder(tmp_path / "empty")
    (tmp_path / "empty" / "gone").symlink_to(tmp_path / "nowhere")
    with pytest.raises(UserError, match=r"cannot read `.*/empty/gone`: No such file or directory"):
        CachedDigester().folder(tmp_path / "empty")
    with pytest.raises(UserError, match=r"cannot read `.*/nowhere`: No such file or directory"):
        CachedDigester().file(tmp_path / "nowhere")
