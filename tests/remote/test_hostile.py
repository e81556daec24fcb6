"""A shared store whose owner means harm: what does not fit is refused by name, nothing is published."""

import json
import re

import pytest
from team import FILES, drafts, published

from rlhfc.remote.place import FolderPlace, action_path, blob_path, document_path, tree_path
from rlhfc.remote.record import RECORD_LIMIT, RefusedError, decode_shared, decode_shared_tree
from rlhfc.store.digest import TREE_TAG, bytes_digest, canonical_json, tagged_digest

OTHER = "b3:" + "0" * 64


class Den:
    """A shared folder with one result, every part of which can be forged."""

    def __init__(self, team, folder) -> None:
        folder.mkdir()
        self.team, self.place = team, FolderPlace(folder)
        self.result = team.result("a")
        self.key = self.result.key
        team.push("a", self.place, self.result)
        self.record = json.loads(self.place.read(action_path(self.key), 0, RECORD_LIMIT))

    def write_record(self, **changes) -> None:
        """Forge the record; dots lead into it: `result__size`."""
        for name, value in changes.items():
            *steps, last = name.split("__")
            inside = self.record
            for step in steps:
                inside = inside[step]
            inside[last] = value
        self.place.replace(action_path(self.key), json.dumps(self.record).encode())

    def write_tree(self, rows, size: int | None = None) -> str:
        """Forge the output's tree, with a record that fits it."""
        digest = tagged_digest(TREE_TAG, sorted(rows))
        self.place.replace(tree_path(digest), canonical_json(sorted(rows)))
        total = sum(row[1] for row in rows) if size is None else size
        self.write_record(result__outputs={"thing": digest}, result__size=total)
        return digest

    def write_document(self, data: bytes) -> None:
        """Forge the key document, with a record that fits it."""
        digest = bytes_digest(data)
        self.place.replace(document_path(digest), data)
        self.write_record(document={"digest": digest, "size": len(data)})

    def refused(self) -> str:
        """Pull; say why it was refused, after making sure that nothing has been published or left."""
        with pytest.raises(RefusedError) as refused:
            self.team.pull("b", self.place, self.key)
        store = self.team.store("b")
        assert ([], []) == (published(store), drafts(store))
        assert not list(store.layout.root.parent.glob("escaped*"))
        return str(refused.value)


@pytest.fixture
def den(team, tmp_path):
    """A shared folder to forge."""
    return Den(team, tmp_path / "shared")


BLOB = bytes_digest(FILES["model.bin"])
SIZE = len(FILES["model.bin"])


@pytest.mark.parametrize(
    "path",
    ["../escaped", "/escaped", "a/../../escaped", "a//b", ".", "", "a/./b", "a\0b", "a" * 256, "é" * 128],
)
def test_paths_that_are_none(den, path):
    """A tree whose path leaves the folder, or cannot be the name of a file, is refused."""
    den.write_tree([[path, SIZE, BLOB]])
    assert re.search("is not a list of path|cannot be the name of a file", den.refused())


@pytest.mark.parametrize(
    ("rows", "why"),
    [
        ([["a", SIZE, BLOB], ["a/b", SIZE, BLOB]], "`a/b` lies below another file"),
        ([["a", SIZE, BLOB], ["a", SIZE, BLOB]], "names a file twice"),
        ([["a", -1, BLOB], ["b", 1, BLOB]], "`a` has an impossible size"),
        ([["a", True, BLOB]], "`a` has an impossible size"),
        ([["a", 2**63, BLOB]], "`a` has an impossible size"),
        ([["a", SIZE, "b3:../../escaped"]], "not a list of path, size and digest"),
        ([["a", SIZE, BLOB + "\n"]], "not a list of path, size and digest"),
        ([["a", SIZE, BLOB], ["b", SIZE + 1, BLOB]], "two sizes for one file"),
    ],
    ids=["below", "twice", "negative", "boolean", "huge", "no-digest", "newline", "two-sizes"],
)
def test_rows_that_are_none(den, rows, why):
    """A tree of which no folder can be made is refused, with the row that shows it."""
    den.write_tree(rows, size=None if sum(row[1] for row in rows) >= 0 else 0)
    if why != "`a` has an impossible size" or rows[0][1] != 2**63:
        assert why in den.refused()
    else:
        assert "result.size" in den.refused()


def test_tree_of_another_digest(den):
    """A tree that is not the one that was named is refused."""
    den.place.replace(tree_path(den.result.outputs["thing"]), canonical_json([["a", SIZE, BLOB]]))
    assert "its digest does not agree" in den.refused()


@pytest.mark.parametrize("data", [b"[" * 200_000, b'["\\ud800"]', b"\xff", b"", b"{}", b"9" * 5000, b"[NaN]"])
def test_trees_that_are_no_json(den, data):
    """Brackets without end, half characters and numbers without end are refused like any other nonsense."""
    with pytest.raises(RefusedError):
        decode_shared_tree(data, OTHER)


def test_half_characters_in_paths(den):
    """A path that is no Unicode is refused."""
    with pytest.raises(RefusedError, match="not a list"):
        decode_shared_tree(b'[["\\ud800",1,"%s"]]' % BLOB.encode(), OTHER)


def test_blob_of_other_content(den):
    """A blob with the right size and other bytes is refused, and named."""
    den.place.replace(blob_path(BLOB), b"x" * SIZE)
    assert (
        f"`{blob_path(BLOB)}` in `{den.place.name}`: its content is not what its name says" == den.refused()
    )


def test_blob_that_is_short(den):
    """A blob with fewer bytes than announced is refused."""
    den.place.replace(blob_path(BLOB), b"weights")
    assert f"does not have the {SIZE} bytes that were announced" in den.refused()


def test_blob_that_never_ends(den, monkeypatch):
    """Of a blob no more is read than was announced; who sends more all the same is refused."""
    real = den.place.read
    asked = []

    def read(path, start, end):
        asked.append(end - start)
        return b"x" * (end - start + 1) if path.startswith("objects") else real(path, start, end)

    monkeypatch.setattr(den.place, "read", read)
    assert "bytes that were announced" in den.refused()
    assert max(asked) <= 64 * 1024 * 1024 + 1


def test_huge_result(den):
    """A result that is announced as larger than the disk is refused before its first byte."""
    den.write_tree([["a", 2**60, OTHER]])
    assert "free" in den.refused()


def test_wrong_sum(den):
    """A record whose size is not that of its files is refused: the plan has shown the size."""
    den.write_record(result__size=1)
    assert f"says 1 bytes, and its trees have {sum(map(len, FILES.values()))}" in den.refused()


def test_record_of_another_key(den):
    """A record that was copied to another key is refused."""
    den.place.replace(action_path(OTHER), den.place.read(action_path(den.key), 0, RECORD_LIMIT))
    with pytest.raises(RefusedError, match=f"it belongs to `{den.key}`"):
        den.team.pull("b", den.place, OTHER)


@pytest.mark.parametrize(
    "changes",
    [
        {"format": 2},
        {"more": 1},
        {"result__outputs": {"thing": "b3:../../../escaped"}},
        {"result__outputs": {"thing": OTHER + "\n"}},
        {"result__outputs": {"\x1b[2J": OTHER}},
        {"result__outputs": []},
        {"result__summary": {"loss": "\x1b]0;owned\x07"}},
        {"result__summary": {"loss": [1]}},
        {"result__seconds": float("inf")},
        {"result__seconds": -1},
        {"result__size": -1},
        {"result__size": True},
        {"result__size": "1"},
        {"result__finished": "today\nyesterday"},
        {"result__metrics": "../../escaped"},
        {"result__metrics": OTHER},
        {"document": {"digest": "b3:../../escaped", "size": 1}},
        {"signature": {"signer": "x"}},
    ],
    ids=str,
)
def test_records_that_are_none(den, changes):
    """Each field of a record has its type, text can be shown, and what names a file is a digest."""
    den.write_record(**changes)
    assert den.refused().startswith(f"the record of `{den.key}` in `{den.place.name}`: ")


@pytest.mark.parametrize(
    "data", [b"", b"[" * 200_000, b"{}", b'{"format":1', b"\xff\xfe", b"null", b" " * (RECORD_LIMIT + 1)]
)
def test_records_that_are_no_json(data):
    """Nonsense in the place of a record is refused, however deep or long it is."""
    with pytest.raises(RefusedError):
        decode_shared(data, OTHER)


@pytest.mark.parametrize(
    ("change", "why"),
    [
        (lambda kept: {**kept, "document": {"kind": "other"}}, "it is not what `b3:"),
        (
            lambda kept: {**kept, "accepted": {"before": OTHER, "who": "\x1b[1m", "why": "", "time": ""}},
            "cannot be shown",
        ),
        (lambda kept: {**kept, "accepted": "yes"}, "accepted"),
        (lambda kept: {**kept, "recorded": []}, "recorded"),
        (lambda kept: {**kept, "document": {"kind": float("nan")}}, "JSON"),
        (lambda kept: [kept], ""),
    ],
    ids=["other-key", "escapes", "no-acceptance", "no-values", "nan", "list"],
)
def test_key_documents_that_do_not_fit(den, change, why):
    """A key document must be what the key is made of; what is shown of it must be fit to be shown."""
    kept = den.team.store("a").key_document(den.key)
    den.write_document(json.dumps(change(kept)).encode())
    assert why in den.refused()


def test_key_document_of_other_bytes(den):
    """A key document that was replaced under its name is refused, signed or not."""
    den.place.replace(document_path(den.record["document"]["digest"]), b"{}")
    assert "its digest does not agree" in den.refused()


def test_key_document_without_end(den):
    """A key document that is announced as huge is refused before it is read."""
    den.write_record(document={"digest": OTHER, "size": 10**15})
    assert "it has more than" in den.refused()


def test_links_in_a_shared_folder(den, tmp_path):
    """A blob that is a link is not there: what lies elsewhere on this machine is not pulled into a store."""
    blob = tmp_path / "shared" / "rlhfc-1" / blob_path(BLOB)
    (tmp_path / "copy").write_bytes(blob.read_bytes())
    blob.unlink()
    blob.symlink_to(tmp_path / "copy")
    assert "it is not there" in den.refused()
