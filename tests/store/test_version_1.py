"""A store that the first version wrote stays readable, and its results stay hits; checkpoints do not."""

import shutil
from pathlib import Path

import pytest

from rlhfc.cli.main import main
from rlhfc.store.layout import Layout
from rlhfc.store.store import Store
from rlhfc.upkeep.fsck import fsck

FIXTURE = Path(__file__).with_name("version_1")
FIRST = "b3:1b55e453f1214bbaf6f446de32cda763b31cdd16208b8b29fc871fbed59d616c"
SECOND = "b3:4e08912d1529c1cbb1bf9ed87fbb449dae3e01dedbb484e001ec61f025c9966a"
ACCEPTED = "b3:6c44fedd95568101951ebb5009d241588cb24a6bc3c1391bfb369a36443b2962"
THIRD = "b3:42fc294df7b65534c14e44f6a2e1357d25b7e67482cb924cd06d016cf3a4af8d"


@pytest.fixture
def old(tmp_path) -> Path:
    """A copy of the fixture to work in; git has kept no mode, no time and no empty folder of it."""
    return Path(shutil.copytree(FIXTURE, tmp_path / "old"))


def test_every_part_is_read(old):
    """Results, files, figures, documents, acceptances and history are what was written then."""
    said: list[str] = []
    store = Store.open(old / "store", said.append)
    texts = {}
    for key in (FIRST, SECOND, ACCEPTED):
        result = store.lookup(key)
        assert result is not None
        (tree,) = result.outputs.values()
        files = {entry.path: store.blob(entry.digest).read_text() for entry in store.tree(tree)}
        texts[key] = files, result.summary, len(store.metrics(result)), result.attempts
    same = {"part/same.txt": "in every artefact"}
    second = ({"data.txt": "second(first())", **same}, {"steps": 2}, 2, 1)
    assert {
        FIRST: ({"data.txt": "first()", **same}, {"steps": 3}, 3, 1),
        SECOND: second,
        ACCEPTED: second,
    } == texts
    assert "longer changes nothing" == store.key_document(ACCEPTED)["accepted"]["why"]
    assert (ACCEPTED, [SECOND]) == (
        store.last_key("pipeline", "second"),
        store.earlier_keys("pipeline", "second"),
    )
    assert store.checkpoint("third", THIRD) is None  # it says neither of which action nor what bytes
    assert "run" == store.ledger.read()[0]["event"]
    assert [] == said


def test_its_results_stay_hits(old, monkeypatch, capsys):
    """The plan of its pipeline finds two stages cached, as it was then; the third has to begin anew."""
    monkeypatch.chdir(old)
    assert 0 == main(["plan", "pipeline.yaml", "--store", "store"])
    out, err = capsys.readouterr()
    assert ["cached", "cached", "run"] == [line.split()[2] for line in out.splitlines()[2:5]]
    assert "" == err


@pytest.mark.parametrize("quick", [True, False])
def test_it_is_clean(old, quick):
    """An examination finds no damage; a repair makes its blobs read-only, and then there is nothing to do."""
    for path in (old / "store" / "objects").rglob("*"):
        path.chmod(0o755 if path.is_dir() else 0o644)
    first = fsck(old / "store", quick=quick, repair=True, tell=lambda files, size: None)
    assert {"blob_writable"} == {each.finding.kind for each in first.fates}
    assert [] == fsck(old / "store", quick=quick, repair=False, tell=lambda files, size: None).fates


def test_new_results_join_it(old):
    """What is written into it now is found beside what was there."""
    store = Store.create(old / "store")
    store.ledger.append("published", run="r", pipeline="pipeline", stage="first", key=FIRST, seconds=1.0)
    assert FIRST == Store.open(old / "store").last_key("pipeline", "first")
    assert "rlhfc-store 1\n" == Layout(old / "store").version.read_text()
