"""File systems over a network: names that show late, handles that go stale, and the end of patience."""

import errno
import os
from pathlib import Path

import pytest
from test_store import KEY, open_store, product

from rlhfc.store import files
from rlhfc.store.store import Store


@pytest.fixture
def network(monkeypatch):
    """Everything lies on NFS; nobody really sleeps, and pauses are noted."""
    paused = []
    monkeypatch.setattr(files, "file_system", lambda path: "nfs4")
    monkeypatch.setattr(files.time, "sleep", paused.append)
    return paused


def failing(monkeypatch, name: str, number: int, times: int, suffix: str = "") -> list[Path]:
    """Have a method of Path fail for a while for paths that end so; the paths that it failed for."""
    real, failed = getattr(Path, name), []

    def method(path: Path, *more, **options):
        if str(path).endswith(suffix) and len(failed) < times:
            failed.append(path)
            raise OSError(number, os.strerror(number), str(path))
        return real(path, *more, **options)

    monkeypatch.setattr(Path, name, method)
    return failed


@pytest.mark.parametrize("number", [errno.ENOENT, errno.ESTALE])
def test_record_that_shows_late_is_found(tmp_path, monkeypatch, network, number):
    """What the folder lists is looked for again, when its name is hidden or its handle stale."""
    result = open_store(tmp_path / "store").publish(product(tmp_path / "work", {"a": b"1"}))
    store = Store.open(tmp_path / "store", warn=pytest.fail)
    failed = failing(monkeypatch, "read_bytes", number, 2, ".json")
    assert result == store.lookup(KEY)
    assert 2 == len(failed)
    assert [0.0, 0.05] == network


def test_blob_that_shows_late_is_found(tmp_path, monkeypatch, network):
    """A result is whole as soon as the server is asked, whatever a cache of names says."""
    result = open_store(tmp_path / "store").publish(product(tmp_path / "work", {"a": b"1"}))
    store = Store.open(tmp_path / "store", warn=pytest.fail)
    blob = store.tree(result.outputs["model"])[0].digest
    failing(monkeypatch, "stat", errno.ENOENT, 3, str(store.blob(blob))[-20:])
    assert result == store.lookup(KEY)


def test_what_the_folder_does_not_list_is_not_waited_for(tmp_path, network):
    """A stage that never ran is known as such at once."""
    assert open_store(tmp_path / "store").lookup(KEY) is None
    assert [] == network


def test_patience_ends(tmp_path, monkeypatch, network):
    """A name that is listed and never opens is a miss in the end, and no loop."""
    open_store(tmp_path / "store").publish(product(tmp_path / "work", {"a": b"1"}))
    failed = failing(monkeypatch, "read_bytes", errno.ENOENT, 10**6, ".json")
    assert open_store(tmp_path / "store").lookup(KEY) is None
    assert 1 + len(files.PAUSES) == len(failed)


def test_local_disks_are_believed(tmp_path, monkeypatch):
    """On a local disk a name that is not found is not there, and no folder is listed for it."""
    open_store(tmp_path / "store").publish(product(tmp_path / "work", {"a": b"1"}))
    failed = failing(monkeypatch, "read_bytes", errno.ENOENT, 10**6, ".json")
    monkeypatch.setattr(files.os, "listdir", lambda path: pytest.fail("listed"))
    assert open_store(tmp_path / "store").lookup(KEY) is None
    assert 1 == len(failed)
