"""Hub sources through a stand-in for the hub's library: commits are asked for, pinned and kept."""

import json
import os

import pytest
from workshop import finish

COMMIT = "c0ffee" * 6 + "c0ff"
# As the library does: a snapshot folder named after the commit, and a note of what the branch was.
LIBRARY = f'''
import os
from pathlib import Path

def snapshot_download(name, *, repo_type, revision, allow_patterns=None):
    if os.environ.get("STAND_IN_FAILS"):
        raise OSError("no way out\\nsecond line")
    root = Path(os.environ["HF_HOME"]) / "hub" / f"{{repo_type}}s--{{name.replace('/', '--')}}"
    if revision != "{COMMIT}":
        (root / "refs").mkdir(parents=True, exist_ok=True)
        (root / "refs" / revision).write_text("{COMMIT}")
    folder = root / "snapshots" / "{COMMIT}"
    folder.mkdir(parents=True, exist_ok=True)
    if allow_patterns is None:
        (folder / "data.txt").write_text("from the hub")
    return str(folder)
'''


@pytest.fixture
def hub(bench, monkeypatch):
    """A stand-in library on the path of every process, and an empty cache."""
    (bench.folder / "library").mkdir()
    (bench.folder / "library" / "huggingface_hub.py").write_text(LIBRARY)
    monkeypatch.setenv("PYTHONPATH", str(bench.folder / "library"), prepend=os.pathsep)
    monkeypatch.setenv("HF_HOME", str(bench.folder / "hf"))
    bench.write(a={"left": {"hub": "owner/name", "revision": "main"}})
    return bench


def test_open_revision_is_pinned_to_its_commit(hub):
    """The run asks for the commit, downloads that commit and keys by it; the next run finds it noted."""
    code, _, err = finish(hub.start("--json"))
    assert code == 0, err
    key = hub.store().last_key("toys", "a")
    assert {"left": f"hub:{COMMIT}"} == hub.store().key_document(key)["document"]["inputs"]
    config = next((hub.folder / "store" / "work").glob("a-*/attempts/001/config.json"))
    assert json.loads(config.read_text())["inputs"]["left"]["path"].endswith(f"snapshots/{COMMIT}")
    code, _, err = finish(hub.start())
    assert (0, "nothing to do: 1 of 1 stages cached") == (code, err.splitlines()[-1])


def test_hub_that_does_not_answer_is_told_and_nothing_is_written(hub, monkeypatch):
    """One line of what the hub said, the ways out, status 1, no store."""
    monkeypatch.setenv("STAND_IN_FAILS", "1")
    code, _, err = finish(hub.start())
    assert code == 1
    assert "pin it with `revision:` (40 hex digits)" in err
    assert "asked for `hub:owner/name@main`: OSError: no way out" in err
    assert "second line" not in err
    assert not (hub.folder / "store").exists()
