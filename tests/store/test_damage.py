"""A result whose bytes have changed is no hit, however the change came about."""

import json
import os
import shutil

import pytest
from damage import flip, rot, swap
from test_store import KEY, OTHER, contents, open_store, product, published

from rlhfc.store import files, seal
from rlhfc.store.digest import bytes_digest
from rlhfc.store.records import DamagedRecordError
from rlhfc.store.store import Store

WHOLE = {"a.bin": b"aaa", "sub/b.bin": b"bb"}
A, B = bytes_digest(b"aaa"), bytes_digest(b"bb")


@pytest.fixture
def counted(monkeypatch):
    """Names of the files that are hashed because no seal speaks for them."""
    read, real = [], seal.file_digest
    monkeypatch.setattr(seal, "file_digest", lambda path: read.append(path.name) or real(path))
    return read


def test_sealed_blobs_are_not_read(tmp_path, counted):
    """A lookup reads no blob that has not been touched since it was published, nor do views touch one."""
    store = open_store(tmp_path / "store")
    store.view(published(store, tmp_path).outputs["model"])
    counted.clear()
    assert Store.open(tmp_path / "store").lookup(KEY) is not None
    assert [] == counted


def test_a_blob_without_a_seal_is_read_once(tmp_path, counted):
    """A blob from elsewhere, or from an older rlhfc, is read, then sealed; the next process reads nothing."""
    store = open_store(tmp_path / "store")
    published(store, tmp_path)
    os.utime(store.blob(A))
    counted.clear()
    assert all(Store.open(tmp_path / "store").lookup(KEY) is not None for _ in range(2))
    assert [store.blob(A).name] == counted


def test_a_store_that_cannot_be_sealed_is_read_once_a_process(tmp_path, counted, monkeypatch):
    """In another user's store an unsealed blob is read, but not again for the next question."""
    published(open_store(tmp_path / "store"), tmp_path)
    os.utime(open_store(tmp_path / "store").blob(A))

    def refuse(*given, **more):
        raise PermissionError(1, "not yours")

    monkeypatch.setattr(seal.os, "utime", refuse)
    counted.clear()
    store = Store.open(tmp_path / "store")
    assert all(store.lookup(KEY) is not None for _ in range(3))
    assert 1 == len(counted)


@pytest.mark.parametrize("through", ["the blob", "a view"])
def test_a_flipped_byte_is_a_miss(tmp_path, through):
    """Bytes that were written to are no hit, said aloud; publishing again mends blob and view."""
    said = []
    store = open_store(tmp_path / "store", said)
    tree = published(store, tmp_path).outputs["model"]
    view = store.view(tree)
    flip(store.blob(A) if through == "the blob" else view / "a.bin")
    said.clear()
    again = open_store(tmp_path / "store", said)
    assert again.lookup(KEY) is None
    assert 1 == len(said)
    assert "`a.bin` holds other bytes than were published" in said[0]
    again.publish(product(tmp_path / "again", WHOLE))
    assert again.lookup(KEY) is not None
    assert WHOLE == contents(again.view(tree))
    (aside,) = (tmp_path / "store" / "quarantine").iterdir()
    place = store.blob(A).relative_to(tmp_path / "store")
    assert b"a`a" == (aside / place).read_bytes()
    row = {"path": str(place), "why": f"its bytes are not those of {A}"}
    assert [row] == json.loads((aside / "why.json").read_text())["files"]


def test_swapped_blobs_are_a_miss(tmp_path):
    """Two blobs of one size under each other's names are no hit, though neither was written to."""
    store = open_store(tmp_path / "store")
    published(store, tmp_path, {"a.bin": b"aaa", "b.bin": b"bbb"})
    swap(store.blob(A), store.blob(bytes_digest(b"bbb")))
    assert Store.open(tmp_path / "store", warn=[].append).lookup(KEY) is None


def test_rot_is_noticed_before_a_stage_reads(tmp_path):
    """What no time stamp tells is found where a stage is about to read, and counts as absent from then on."""
    store = open_store(tmp_path / "store")
    tree = published(store, tmp_path).outputs["model"]
    store.view(tree)
    rot(store.blob(B), B)
    with pytest.raises(DamagedRecordError, match=r"`sub/b\.bin` holds other bytes than were published"):
        store.view_read(tree)
    assert store.lookup(KEY) is None
    store.publish(product(tmp_path / "again", WHOLE))
    assert WHOLE == contents(store.view_read(tree))


def test_other_names_of_rot_do_not_pass_for_sealed(tmp_path):
    """A view that still links to a damaged file in quarantine is mended when the bytes are there again."""
    store = open_store(tmp_path / "store")
    tree = published(store, tmp_path).outputs["model"]
    store.view(tree)
    rot(store.blob(B), B)
    again = product(tmp_path / "again", WHOLE)
    store.forget(KEY, store.record(KEY))
    store.publish(again)
    assert WHOLE == contents(store.view(tree))


def test_rot_is_noticed_when_everything_is_read_again(tmp_path):
    """With `rehash` a lookup reads every blob, and what it reads replaces what it believed."""
    store = open_store(tmp_path / "store")
    published(store, tmp_path)
    rot(store.blob(B), B)
    assert Store.open(tmp_path / "store").lookup(KEY) is not None
    assert Store.open(tmp_path / "store", [].append, rehash=True).lookup(KEY) is None


def test_a_damaged_view_of_its_own_is_made_again(tmp_path, monkeypatch):
    """Where views are files of their own, one that has changed costs nothing: the blob is whole."""
    monkeypatch.setattr(files, "clone", cloning)
    store = open_store(tmp_path / "store")
    tree = published(store, tmp_path).outputs["model"]
    view = store.view(tree)
    assert not store.blob(A).samefile(view / "a.bin")
    flip(view / "a.bin")
    assert store.lookup(KEY) is not None
    assert WHOLE == contents(store.view(tree))
    rot(view / "a.bin", A)
    assert WHOLE == contents(store.view_read(tree))
    assert store.lookup(KEY) is not None


def test_an_output_linked_from_a_view_of_its_own(tmp_path, monkeypatch):
    """An output that is a hard link to such a view's file is known without hashing, and is the same blob."""
    monkeypatch.setattr(files, "clone", cloning)
    store = open_store(tmp_path / "store")
    first = published(store, tmp_path)
    out = tmp_path / "work2" / "out" / "model"
    out.mkdir(parents=True)
    os.link(store.view(first.outputs["model"]) / "a.bin", out / "linked.bin")
    made = product(tmp_path / "work2", {}, OTHER, inputs=tuple(first.outputs.values()), ports={"model": out})
    assert {"linked.bin": b"aaa"} == contents(store.view(store.publish(made).outputs["model"]))


def test_damaged_metrics_are_not_read(tmp_path):
    """Metrics that have changed are left out, and named; the result stands."""
    said = []
    store = open_store(tmp_path / "store", said)
    (tmp_path / "work").mkdir()
    (tmp_path / "work" / "metrics.jsonl").write_text('{"step": 1, "total": 1, "loss": 1}\n')
    result = published(store, tmp_path)
    flip(store.blob(result.metrics))
    assert [] == store.metrics(result)
    assert "are damaged" in said[0]
    assert store.lookup(KEY) is not None


@pytest.mark.parametrize("name", ["recorded", "origins", "document"])
def test_a_changed_key_document_does_not_count(tmp_path, name):
    """Also what is kept beside the pre-image is checked: a changed letter is said aloud."""
    said = []
    store = open_store(tmp_path / "store", said)
    kept = {"document": {"kind": "toy"}, "recorded": {"params.x": "old"}, "origins": {"params.x": "a.yaml:1"}}
    store.write_document(KEY, kept)
    assert kept == store.key_document(KEY)
    path = store.layout.document(KEY)
    change = {"recorded": (b"old", b"new"), "origins": (b"a.yaml", b"b.yaml"), "document": (b"toy", b"tox")}
    path.write_bytes(path.read_bytes().replace(*change[name]))
    assert store.key_document(KEY) is None
    assert "its check digest does not agree" in said[0]


def cloning(source, target):
    """Stands for a reflink: a file of its own with the bytes, mode and time of the source."""
    shutil.copy2(source, target)
    return True
