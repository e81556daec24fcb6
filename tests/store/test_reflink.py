"""Views on a file system that has reflinks: a real one where it can be mounted."""

import errno
import os
import shutil
import subprocess

import pytest
from damage import flip
from test_store import KEY, contents, open_store, published

from rlhfc.store import files
from rlhfc.store.digest import bytes_digest

WHOLE = {"a.bin": b"aaa", "sub/b.bin": b"bb"}
MAKERS = (["mkfs.xfs", "-q", "-m", "reflink=1"], ["mkfs.btrfs", "-q"])


@pytest.fixture
def mounted(tmp_path):
    """A file system with reflinks, in a file; skipped where none can be made and mounted."""
    image, point = tmp_path / "image", tmp_path / "mounted"
    point.mkdir()
    for maker in MAKERS:
        if shutil.which(maker[0]) is None:
            continue
        with image.open("wb") as stream:
            stream.truncate(320 * 1024 * 1024)
        made = subprocess.run([*maker, str(image)], capture_output=True, check=False).returncode == 0
        mount = ["mount", "-o", "loop", str(image), str(point)]
        if made and subprocess.run(mount, capture_output=True, check=False).returncode == 0:
            yield point
            subprocess.run(["umount", str(point)], check=True)
            return
    pytest.skip("no file system with reflinks can be mounted here")


def test_a_write_through_a_view_reaches_no_blob(mounted, tmp_path):
    """On such a file system a view shares blocks and no inode; a stage that writes harms itself only."""
    store = open_store(mounted / "store")
    tree = published(store, mounted).outputs["model"]
    view = store.view(tree)
    blob = store.blob(bytes_digest(b"aaa"))
    assert not blob.samefile(view / "a.bin")
    assert (0o444, blob.stat().st_mtime_ns) == (
        (view / "a.bin").stat().st_mode & 0o777,
        (view / "a.bin").stat().st_mtime_ns,
    )
    flip(view / "a.bin")
    assert b"aaa" == blob.read_bytes()
    assert store.lookup(KEY) is not None
    assert WHOLE == contents(store.view(tree))


def test_reflink_comes_first(tmp_path, monkeypatch):
    """The kernel is asked to share blocks, from the blob; where it does, no link is made."""
    asked = []

    def ioctl(target, request, source):
        asked.append(request)
        os.write(target, os.pread(source, 1000, 0))

    monkeypatch.setattr(files.fcntl, "ioctl", ioctl)
    store = open_store(tmp_path / "store")
    view = store.view(published(store, tmp_path).outputs["model"])
    assert WHOLE == contents(view)
    assert [files.FICLONE] * 2 == asked
    assert not store.blob(bytes_digest(b"aaa")).samefile(view / "a.bin")


@pytest.mark.parametrize("code", [errno.EOPNOTSUPP, errno.EXDEV, errno.EINVAL, errno.ENOTTY])
def test_without_reflinks_a_view_is_hard_links(tmp_path, monkeypatch, code):
    """A file system that cannot share blocks leaves no draft behind, and links are made."""

    def ioctl(*given):
        raise OSError(code, "no")

    monkeypatch.setattr(files.fcntl, "ioctl", ioctl)
    store = open_store(tmp_path / "store")
    view = store.view(published(store, tmp_path).outputs["model"])
    assert store.blob(bytes_digest(b"aaa")).samefile(view / "a.bin")
    assert [] == list(store.layout.scratch.iterdir())


def test_a_full_disk_is_no_reason_to_link(tmp_path, monkeypatch):
    """Any other error is told, and nothing half-made stays."""

    def ioctl(*given):
        raise OSError(errno.ENOSPC, "No space left on device")

    store = open_store(tmp_path / "store")
    tree = published(store, tmp_path).outputs["model"]
    monkeypatch.setattr(files.fcntl, "ioctl", ioctl)
    with pytest.raises(OSError, match="No space left"):
        store.view(tree)
    assert [] == [path for path in store.layout.scratch.rglob("*") if path.is_file()]
