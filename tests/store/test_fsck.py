"""The examination: what it survives, what it leaves alone, what it says."""

import errno
import json
import os
import stat
import time
from pathlib import Path

import pytest
from damage import flip, rot, write
from test_store import KEY, open_store, published

from rlhfc.cli.main import main
from rlhfc.compile.keys import ACTION_TAG
from rlhfc.store.digest import bytes_digest, tagged_digest
from rlhfc.store.files import unique_name
from rlhfc.store.holder import Holder
from rlhfc.store.locks import Locks, StoppedError
from rlhfc.store.store import Store
from rlhfc.store.tags import Tag, damaged_tags, write_tag
from rlhfc.upkeep import fsck as examination
from rlhfc.upkeep.findings import MEANINGS, Kind
from rlhfc.upkeep.fsck import fsck
from rlhfc.upkeep.mend import Mender
from rlhfc.upkeep.quota import write_quota
from rlhfc.upkeep.scope import Scope

A = bytes_digest(b"aaa")
DOCUMENT = {"document": {"kind": "toy"}, "recorded": {}, "origins": {}}
HERE = tagged_digest(ACTION_TAG, DOCUMENT["document"])


@pytest.fixture
def store(tmp_path, monkeypatch) -> Store:
    """One result with metrics."""
    monkeypatch.setattr(examination, "AGAIN_SECONDS", 0)
    (tmp_path / "work").mkdir()
    (tmp_path / "work" / "metrics.jsonl").write_text('{"step": 1}\n')
    store = open_store(tmp_path / "store")
    published(store, tmp_path, key=HERE, document=DOCUMENT)
    return store


def examine(store: Store, **how):
    """Examine and return the report."""
    return fsck(store.layout.root, **{"quick": False, "repair": False, **how}, tell=lambda files, size: None)


def kinds(report) -> list[str]:
    """Kinds that were found."""
    return [str(each.finding.kind) for each in report.fates]


def test_every_kind_has_a_meaning():
    """The set is closed: each kind says what is lost and what a repair does."""
    assert set(Kind) == set(MEANINGS)


def test_rot_is_found_by_reading_only(store):
    """What no time stamp tells of is found by an examination that reads, and not by a quick one."""
    rot(store.blob(A), A)
    assert [] == kinds(examine(store, quick=True))
    assert ["blob_damaged", "record_incomplete"] == kinds(examine(store))


def test_a_second_look_is_not_counted(store):
    """Files, bytes and results are as many with damage as without, though what is damaged is read twice."""
    sound = examine(store)
    rot(store.blob(A), A)
    report = examine(store)
    assert (sound.files, sound.bytes, sound.results) == (report.files, report.bytes, report.results)


def test_a_repair_forgets_what_is_not_whole(store):
    """The damaged blob and the record lie in one quarantine with their reasons; the ledger notes it."""
    flip(store.blob(A))
    report = examine(store, repair=True)
    assert [True, True] == [each.repaired for each in report.fates if each.finding.kind != "unreferenced"]
    assert store.lookup(HERE) is None
    paths = [store.blob(A), store.layout.action(HERE)]
    names = [str(path.relative_to(store.layout.root)) for path in paths]
    why = json.loads((report.quarantine / "why.json").read_text())
    assert names == [row["path"] for row in why["files"]]
    assert [True, True] == [(report.quarantine / name).exists() for name in names]
    assert ("forgotten", HERE) == tuple(store.ledger.read()[-1][name] for name in ("event", "key"))


def test_lost_metrics_cost_no_result(store):
    """A result whose metrics are gone stands, and after a repair it is a result without metrics."""
    before = store.lookup(HERE)
    flip(store.blob(before.metrics))
    assert ["blob_damaged", "metrics_lost"] == kinds(examine(store, repair=True))
    after = store.lookup(HERE)
    assert (before.outputs, None) == (after.outputs, after.metrics)
    assert [] == examine(store).damage


@pytest.mark.parametrize("code", [errno.EIO, errno.EACCES])
def test_a_file_that_cannot_be_read_is_a_finding(store, monkeypatch, code):
    """An error of the disk or of permissions at one file ends nothing; the others are examined."""
    tree = store.layout.tree(store.lookup(HERE).outputs["model"])
    real = Scope.read

    def read(self, path: Path) -> bytes:
        if path == tree:
            raise OSError(code, os.strerror(code), str(path))
        return real(self, path)

    monkeypatch.setattr(Scope, "read", read)
    flip(store.layout.document(HERE))
    found = {each.finding.kind: each.finding for each in examine(store).fates}
    assert {"unreadable", "document_damaged"} == set(found)
    assert os.strerror(code) == found["unreadable"].why


def test_what_cannot_be_moved_is_left(store, monkeypatch, capsys):
    """A repair that is not allowed to move something says so, and the status stays 1."""
    flip(store.blob(A))
    real = Path.rename

    def rename(self, target):
        if self == store.blob(A):
            raise PermissionError(errno.EACCES, "Permission denied", str(self))
        return real(self, target)

    monkeypatch.setattr(Path, "rename", rename)
    assert 1 == main(["fsck", "--store", str(store.layout.root), "--repair"])
    assert "left: Permission denied" in capsys.readouterr().out


def test_what_vanishes_or_appears_meanwhile_is_no_finding(store, monkeypatch):
    """A finding that a second look does not confirm was a run at work."""
    tree = store.layout.tree(store.lookup(HERE).outputs["model"])
    data = tree.read_bytes()
    flip(tree)
    looked = []

    def meanwhile(seconds: float) -> None:
        looked.append(seconds)
        write(tree, data)

    monkeypatch.setattr(examination.time, "sleep", meanwhile)
    assert [] == kinds(examine(store))
    assert 1 == len(looked)


def test_drafts_are_known_by_age_and_writer(store):
    """A draft of an hour whose writer is gone is left over; a younger one is not, nor a living one's."""
    scratch, dead = store.layout.scratch, 2**22 - 3
    hour, day = 2 * 3600, 3 * 86_400
    for name in (f"{dead}-{'0' * 32}", unique_name()):
        (scratch / name).mkdir()
        (scratch / name / "file").write_text("x")
    assert [] == kinds(examine(store))
    now = examination.time.time()
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("rlhfc.upkeep.scope.time.time", lambda: now + hour)
        found = examine(store).fates
        assert [(Kind.LEFTOVER, f"tmp/{dead}-{'0' * 32}")] == [
            (f.finding.kind, f.finding.place) for f in found
        ]
        patch.setattr("rlhfc.upkeep.scope.time.time", lambda: now + day)
        assert ["leftover", "leftover"] == kinds(examine(store, repair=True))
    assert [] == list(scratch.iterdir())


def test_a_stranger_is_put_aside(store):
    """A file that rlhfc never named is moved, wherever it lies among the results."""
    for place in ("objects/notes.txt", "trees/ab/notes", "actions/ab/x.json", "views/notes"):
        path = store.layout.root / place
        path.parent.mkdir(exist_ok=True)
        path.write_text("mine")
    assert ["stranger"] * 4 == kinds(examine(store, repair=True))
    assert [] == kinds(examine(store))


def test_a_writable_blob_is_made_read_only(store):
    """Its bytes are right: only its mode changes."""
    store.blob(A).chmod(0o644)
    assert ["blob_writable"] == kinds(examine(store, repair=True))
    assert 0o444 == stat.S_IMODE(store.blob(A).stat().st_mode)


def test_unreferenced_blobs_are_noted(store):
    """What no result needs is told with its size, and left."""
    store.forget(HERE, store.record(HERE))
    report = examine(store, repair=True)
    told = [each.finding.why for each in report.fates if each.finding.kind == "unreferenced"]
    assert "3 files, 17 bytes, that no result needs" == told[0]
    assert [] == report.damage
    assert store.blob(A).exists()


def test_the_work_of_a_living_run_is_left(store):
    """A damaged checkpoint of an action whose key is held is named and not moved; then it is moved."""
    work = store.work("s", KEY)
    folder = work / "checkpoints" / "step-000001"
    folder.mkdir(parents=True)
    record = {"format": 3, "key": KEY, "step": 1, "total": 2, "files": [{"path": "gone", "size": 1}]}
    (folder / "COMPLETE.json").write_text(json.dumps(record))
    (work / "key.json").write_text(json.dumps({"key": KEY, "pipeline": "p", "stage": "s"}))
    with Store.open(store.layout.root).locks.key(KEY, Holder.me(), lambda: False, pytest.fail):
        (fate,) = examine(store, repair=True).fates
    assert ("checkpoint_damaged", "`gone` is missing", False, "a run is at work there") == (
        fate.finding.kind,
        fate.finding.why,
        fate.repaired,
        fate.left,
    )
    assert [True] == [each.repaired for each in examine(store, repair=True).fates]
    assert not folder.exists()


def test_a_run_waits_for_a_repair_and_not_for_the_examination(store, monkeypatch):
    """Others may make references while files are read, and while a view is mended nobody may."""
    (store.view(store.lookup(HERE).outputs["model"]) / "stranger").write_text("x")
    order, before, mend = [], time.sleep, Mender.mend

    def mended(mender, path, finding):
        with pytest.raises(StoppedError):
            shared("during")
        mend(mender, path, finding)

    def shared(when):
        locks = Locks(store.layout, pytest.fail)
        monkeypatch.setattr(locks, "_patiently", lambda attempt: attempt() or stopped())
        with locks.sharing():
            order.append(when)

    def stopped():
        raise StoppedError

    def slept(seconds):
        shared("before")
        before(seconds)

    monkeypatch.setattr(examination.time, "sleep", slept)
    monkeypatch.setattr(Mender, "mend", mended)
    assert [True] == [each.repaired for each in examine(store, repair=True).fates]
    assert ["before"] == order


def test_what_the_command_says(store, capsys):
    """Findings with what they cost, a sum and a hint; the status tells damage."""
    root = str(store.layout.root)
    assert 0 == main(["fsck", "--store", root])
    assert f"{root}: 1 result, 7 files, " in capsys.readouterr().out
    flip(store.blob(A))
    place = store.blob(A).relative_to(store.layout.root)
    record = store.layout.action(HERE).relative_to(store.layout.root)
    assert 1 == main(["fsck", "--store", root])
    assert [
        f"damage: {place}: its bytes are not those that it is named after",
        "  blob_damaged; lost: every result that has this file",
        f"damage: {record}: port `model`: `a.bin` is damaged",
        "  record_incomplete; lost: the result: its stage runs again",
    ] == capsys.readouterr().out.splitlines()[:4]
    assert 0 == main(["fsck", "--store", root, "--repair", "--json"])
    document = json.loads(capsys.readouterr().out)
    assert (True, "1.0", True) == (document["clean"], document["format_version"], document["repair"])
    assert {"blob_damaged", "record_incomplete"} <= {found["kind"] for found in document["findings"]}


def test_what_is_no_store_is_refused(tmp_path, capsys):
    """A folder that is none, one that is not there, and a store of a newer version are left alone."""
    (tmp_path / "notes.txt").write_text("mine")
    assert 1 == main(["fsck", "--store", str(tmp_path), "--repair"])
    assert 1 == main(["fsck", "--store", str(tmp_path / "none"), "--repair"])
    store = open_store(tmp_path / "store")
    store.layout.version.write_text("rlhfc-store 2\n")
    assert 1 == main(["fsck", "--store", str(tmp_path / "store"), "--repair"])
    errors = capsys.readouterr().err
    assert [
        "it has files but no `VERSION`" in errors,
        "there is no store" in errors,
        "is newer than" in errors,
    ] == [True] * 3
    assert "rlhfc-store 2\n" == store.layout.version.read_text()


def test_what_was_removed_is_not_missed(store):
    """A result that removal took is not one that the ledger tells of and is gone."""
    store.layout.action(HERE).unlink()
    assert ["result_gone", "unreferenced", "unreferenced"] == kinds(examine(store))
    store.ledger.append("collected", keys=[HERE])
    assert ["unreferenced", "unreferenced"] == kinds(examine(store))


def test_tags_and_the_quota_are_looked_at(store):
    """Those that do not say what they should are put aside, so that removal goes on."""
    write_tag(store.layout, Tag("good", HERE, "p", "s", "Ada", "2026-11-22T00:00:00.000+00:00"))
    write_quota(store.layout, 10**9)
    assert [] == kinds(examine(store))
    (store.layout.tags / "bad.json").write_text("{}")
    (store.layout.root / "quota.json").write_text("{}")
    assert ["tag_damaged", "quota_damaged"] == kinds(examine(store, repair=True))
    assert ([], []) == (kinds(examine(store)), damaged_tags(store.layout))


def test_progress_is_told_now_and_then(store, monkeypatch, capsys):
    """A long examination says on stderr how far it is."""
    monkeypatch.setattr("rlhfc.cli.fsck.TELL_SECONDS", 0.0)
    main(["fsck", "--store", str(store.layout.root)])
    assert "fsck: 1 files, 0.0 GB read\n" in capsys.readouterr().err
