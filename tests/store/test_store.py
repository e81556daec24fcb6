"""The store: publication, damage, views, ledger."""

import errno
import os
import threading
from pathlib import Path

import pytest

from rlhfc.errors import UserError
from rlhfc.store import layout
from rlhfc.store.digest import TreeEntry, bytes_digest, tree_digest
from rlhfc.store.publish import Product
from rlhfc.store.store import Store

KEY = "b3:" + "a" * 64
OTHER = "b3:" + "c" * 64


def open_store(root, said=None):
    """Open a store whose warnings go to the list `said`."""
    return Store.create(root, warn=(said if said is not None else []).append)


def product(work: Path, files: dict[str, bytes], key=KEY, **more) -> Product:
    """Write `files` to the one port of a work folder, ready to publish."""
    for name, data in files.items():
        path = work / "out" / "model" / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(data)
    facts = {
        "run": "r1",
        "pipeline": "p",
        "stage": "s",
        "key": key,
        "document": {"kind": "toy"},
        "ports": {"model": work / "out" / "model"},
        "metrics": work / "metrics.jsonl",
        "summary": {"loss": 0.5},
        "seconds": 2.0,
        "attempts": 1,
    }
    return Product(**{**facts, **more})


def published(store: Store, tmp_path: Path, files=None, **more):
    """Publish two small files."""
    return store.publish(product(tmp_path / "work", files or {"a.bin": b"aaa", "sub/b.bin": b"bb"}, **more))


def contents(folder: Path) -> dict[str, bytes]:
    """Read every file of a folder."""
    return {str(p.relative_to(folder)): p.read_bytes() for p in sorted(folder.rglob("*")) if p.is_file()}


def test_published_result_is_found_again(tmp_path):
    """What was published is what another process finds: outputs, size, figures, key document."""
    result = published(open_store(tmp_path / "store"), tmp_path)
    entries = [TreeEntry("a.bin", 3, bytes_digest(b"aaa")), TreeEntry("sub/b.bin", 2, bytes_digest(b"bb"))]
    again = Store.open(tmp_path / "store")
    assert (tree_digest(entries), 5, {"loss": 0.5}) == (result.outputs["model"], result.size, result.summary)
    assert result == again.lookup(KEY)
    assert {"kind": "toy"} == again.key_document(KEY)
    assert KEY == again.last_key("p", "s")
    assert again.last_key("p", "other") is None


def test_view_is_the_folder_that_was_published(tmp_path):
    """A view holds the same names and bytes, read-only, without a second copy on disk."""
    store = open_store(tmp_path / "store")
    view = store.view(published(store, tmp_path).outputs["model"])
    assert {"a.bin": b"aaa", "sub/b.bin": b"bb"} == contents(view)
    assert 0o444 == (view / "a.bin").stat().st_mode & 0o777
    assert store.blob(bytes_digest(b"aaa")).samefile(view / "a.bin")


def test_view_is_mended(tmp_path):
    """What strangers left in a view, took from it or replaced in it is put right at its next use."""
    store = open_store(tmp_path / "store")
    tree = published(store, tmp_path).outputs["model"]
    view = store.view(tree)
    (view / "stray").write_text("x")
    (view / "a.bin").unlink()
    (view / "sub" / "b.bin").unlink()
    (view / "sub" / "b.bin").write_bytes(b"XX")
    assert {"a.bin": b"aaa", "sub/b.bin": b"bb"} == contents(store.view(tree))


def test_first_writer_wins(tmp_path):
    """Of two results for one key the first stays, and the second writer is given it."""
    store = open_store(tmp_path / "store")
    first = published(store, tmp_path)
    second = store.publish(product(tmp_path / "work2", {"a.bin": b"other"}))
    assert first == second == store.lookup(KEY)


def test_many_writers_agree(tmp_path):
    """Eight threads that publish different bytes for one key all come away with the same result."""
    store = open_store(tmp_path / "store")
    results = []

    def write(number: int) -> None:
        results.append(store.publish(product(tmp_path / f"w{number}", {"a": b"%d" % number})))

    threads = [threading.Thread(target=write, args=(n,)) for n in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert [store.lookup(KEY)] * 8 == results


@pytest.mark.parametrize("damage", ["truncate", "flip", "empty", "other key", "not json"])
def test_damaged_record_is_a_miss_said_aloud(tmp_path, damage):
    """A record that is not what was written counts as absent, is named once, and can be replaced."""
    said = []
    store = open_store(tmp_path / "store", said)
    result = published(store, tmp_path)
    path = store.layout.action(KEY)
    data = path.read_bytes()
    path.chmod(0o644)
    changed = {
        "truncate": data[: len(data) // 2],
        "flip": data.replace(b'"attempts": 1', b'"attempts": 2'),
        "empty": b"",
        "other key": data.replace(b"a" * 64, b"b" * 64),
        "not json": b"\xff\xfe",
    }[damage]
    assert changed != data
    path.write_bytes(changed)
    assert store.lookup(KEY) is None
    assert store.lookup(KEY) is None
    assert 1 == len(said)
    assert str(path) in said[0]
    again = published(store, tmp_path)
    assert again == store.lookup(KEY)
    assert again.outputs == result.outputs


@pytest.mark.parametrize("part", ["blob gone", "blob short", "tree gone", "tree damaged"])
def test_missing_part_is_a_miss(tmp_path, part):
    """A record whose tree or blob is gone or short counts as absent, and publishing mends it."""
    said = []
    store = open_store(tmp_path / "store", said)
    result = published(store, tmp_path)
    view = store.view(result.outputs["model"])
    blob, tree = store.blob(bytes_digest(b"aaa")), store.layout.tree(result.outputs["model"])
    if part == "blob gone":
        blob.unlink()
    elif part == "blob short":
        blob.chmod(0o644)
        blob.write_bytes(b"a")
    elif part == "tree gone":
        tree.unlink()
    else:
        tree.chmod(0o644)
        tree.write_bytes(tree.read_bytes().replace(b"a.bin", b"../../"))
    assert store.lookup(KEY) is None
    assert 1 == len(said)
    published(store, tmp_path)
    assert store.lookup(KEY) is not None
    assert {"a.bin": b"aaa", "sub/b.bin": b"bb"} == contents(
        view if part == "blob gone" else store.view(result.outputs["model"])
    )


def test_linked_input_keeps_its_blob(tmp_path):
    """An output that is a hard link to an input's blob is not rehashed, and the blob is untouched."""
    store = open_store(tmp_path / "store")
    first = published(store, tmp_path)
    view = store.view(first.outputs["model"])
    blob = store.blob(bytes_digest(b"aaa"))
    before = (blob.stat().st_ino, blob.stat().st_mtime_ns, blob.stat().st_mode)
    out = tmp_path / "work2" / "out" / "model"
    out.mkdir(parents=True)
    os.link(view / "a.bin", out / "linked.bin")
    second = store.publish(
        product(tmp_path / "work2", {}, key=OTHER, inputs=tuple(first.outputs.values()), ports={"model": out})
    )
    assert {"linked.bin": b"aaa"} == contents(store.view(second.outputs["model"]))
    assert before == (blob.stat().st_ino, blob.stat().st_mtime_ns, blob.stat().st_mode)


def test_link_to_a_file_outside_is_copied(tmp_path):
    """An output that shares its bytes with a file of the user's gets its own: later edits do not reach it."""
    store = open_store(tmp_path / "store")
    mine = tmp_path / "mine.bin"
    mine.write_bytes(b"mine")
    out = tmp_path / "work" / "out" / "model"
    out.mkdir(parents=True)
    os.link(mine, out / "a.bin")
    mode = mine.stat().st_mode
    result = store.publish(product(tmp_path / "work", {}, ports={"model": out}))
    assert mode == mine.stat().st_mode
    mine.write_bytes(b"MINE")
    assert {"a.bin": b"mine"} == contents(store.view(result.outputs["model"]))


def test_copies_where_links_fail(tmp_path, monkeypatch):
    """On a file system without hard links between folders, blobs and views are copies."""
    store = open_store(tmp_path / "store")
    real = os.link

    def refuse(source, target, **more):
        if "objects" in str(target) or "objects" in str(source):
            raise PermissionError(1, "no links")
        real(source, target, **more)

    monkeypatch.setattr("os.link", refuse)
    result = published(store, tmp_path)
    view = store.view(result.outputs["model"])
    assert {"a.bin": b"aaa", "sub/b.bin": b"bb"} == contents(view)
    inode = (view / "a.bin").stat().st_ino
    assert inode == (store.view(result.outputs["model"]) / "a.bin").stat().st_ino


def test_odd_names_survive(tmp_path):
    """Names with spaces, newlines, quotes and non-ASCII letters come back as they were."""
    store = open_store(tmp_path / "store")
    files = {"a b": b"1", "line\nbreak": b"2", 'quo"te': b"3", "ünï/ço∂é": b"4", "-rf": b"5"}
    assert files == contents(store.view(published(store, tmp_path, files).outputs["model"]))


def test_open_makes_nothing(tmp_path):
    """A plan on a store that is not there yet reads it as empty and leaves no trace."""
    store = Store.open(tmp_path / "store")
    found = (store.lookup(KEY), store.key_document(KEY), store.last_key("p", "s"), store.checkpoint("s", KEY))
    assert (None, None, None, None) == found
    assert [] == list(tmp_path.iterdir())


def test_stat_cache_alone_does_not_make_a_strange_folder(tmp_path):
    """A folder that holds no more than a plan's stat cache can become a store."""
    (tmp_path / "stat-cache.json").write_text("{}")
    assert Store.open(tmp_path).lookup(KEY) is None
    Store.create(tmp_path)
    assert "rlhfc-store 1\n" == (tmp_path / "VERSION").read_text()


def test_store_that_another_run_is_making_is_one(tmp_path, monkeypatch):
    """A store that appears between two looks at its folder is a store, not a folder with strange files."""
    real, root = layout._is_empty, tmp_path / "store"

    def meanwhile(folder: Path) -> bool:
        monkeypatch.setattr(layout, "_is_empty", real)
        Store.create(root)
        return real(folder)

    monkeypatch.setattr(layout, "_is_empty", meanwhile)
    assert published(Store.create(root), tmp_path) == Store.open(root).lookup(KEY)


@pytest.mark.parametrize(
    ("text", "message"),
    [
        (
            "rlhfc-store 2\n",
            "has version 2, which is newer than this rlhfc: it uses 1\nhint: use a newer rlhfc",
        ),
        ("rlhfc-store 0\n", "has version 0, which no rlhfc has written: the first is 1"),
        ("something else\n", "is not one that rlhfc wrote: 'something else'"),
        (None, "it has files but no `VERSION`"),
    ],
)
def test_strange_store_is_refused(tmp_path, text, message):
    """A store of another version, or a folder that is none, is refused before anything is written."""
    if text is None:
        (tmp_path / "notes.txt").write_text("mine")
    else:
        (tmp_path / "VERSION").write_text(text)
    before = sorted(tmp_path.iterdir())
    for use in (Store.open, Store.create):
        with pytest.raises(UserError, match=message):
            use(tmp_path)
    assert before == sorted(tmp_path.iterdir())


def test_ledger_line_that_did_not_fit_is_an_error(tmp_path, monkeypatch):
    """A disk that takes half of a line has not taken it, although the call says no more than how much."""
    store, honest, room = open_store(tmp_path / "store"), os.write, [20]

    def full(descriptor, data):
        if not room:
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
        return honest(descriptor, data[: room.pop()])

    monkeypatch.setattr(os, "write", full)
    with pytest.raises(OSError, match="No space left on device"):
        store.ledger.append("run", pipeline="p")
    assert 20 == store.layout.ledger.stat().st_size


def test_damaged_ledger_lines_are_skipped(tmp_path):
    """A torn or changed ledger line is named and skipped; the next entry starts a line of its own."""
    said = []
    store = open_store(tmp_path / "store", said)
    store.ledger.append("run", pipeline="p")
    store.ledger.append("run", pipeline="q")
    path = store.layout.ledger
    lines = path.read_bytes().splitlines()
    path.write_bytes(lines[0].replace(b'"p"', b'"X"') + b"\n" + lines[1] + b'\n{"crc": "00')
    store.ledger.append("run", pipeline="r")
    assert ["q", "r"] == [entry["pipeline"] for entry in store.ledger.read()]
    assert [True, True] == [
        f"ledger.jsonl:{n}` is damaged" in text for n, text in zip((1, 3), said, strict=True)
    ]
