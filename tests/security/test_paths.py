"""No name that a file of others gives leads out of the folder that it belongs to."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from rlhfc.compile.digests import CachedDigester
from rlhfc.compile.hub import cached_commit
from rlhfc.compile.mirrors import Mirrors
from rlhfc.compile.sources import resolve_source
from rlhfc.compile.world import World
from rlhfc.errors import UserError
from rlhfc.kind import InputModel
from rlhfc.spec.load import load_pipeline
from rlhfc.store.digest import TreeEntry, tree_digest
from rlhfc.store.layout import Layout
from rlhfc.store.records import DamagedRecordError, decode_tree, encode_tree, stays_inside

STEPS = st.lists(
    st.sampled_from(["..", ".", "", "a", "\n", "~", "b c", "\0"]) | st.text(max_size=3), max_size=6
)
NAMES = st.text(max_size=12) | STEPS.map("/".join) | STEPS.map(lambda steps: "/" + "/".join(steps))
ROOT = Path("/store")
DIGEST = f"b3:{'0' * 64}"


def inside(path: Path, root: Path) -> bool:
    """Whether a path, its dots worked out, lies properly below a folder."""
    steps: list[str] = []
    for part in path.parts:
        if part == "..":
            steps.pop()
        elif part != ".":
            steps.append(part)
    return Path(*steps) != root and Path(*steps).is_relative_to(root)


@given(NAMES, NAMES)
def test_places_in_a_store_are_in_the_store(name, key):
    """Whatever a stage, a pipeline or a key is called, its file is one below the folder for such files."""
    layout = Layout(ROOT)
    digest = f"b3:{key}"
    assert ROOT / "work" == layout.work(name, digest).parent
    assert ROOT / "reports" == layout.report(name).parent
    assert ROOT / "views" == layout.view(f"{digest}0").parent
    assert ROOT / "locks" == layout.lock(f"{digest}0").parent
    for place, folder in ((layout.blob, "objects"), (layout.tree, "trees"), (layout.action, "actions")):
        assert inside(place(f"{digest}0"), ROOT / folder)


@given(NAMES)
def test_row_of_a_tree_stays_inside(name):
    """A row is read only when joining it to a folder gives something below that folder."""
    entries = [TreeEntry(name, 1, DIGEST)]
    try:
        data, digest = encode_tree(entries), tree_digest(entries)
    except UnicodeEncodeError:
        return  # no file is called so
    try:
        found = decode_tree(data, digest)
    except DamagedRecordError:
        assert not stays_inside(name)
    else:
        assert entries == found
        assert inside(ROOT / "view" / name, ROOT / "view")


@pytest.mark.parametrize("name", ["../x", "a/../../x", "/x", "a//b", ".", "..", "", "a/.", "a\0"])
def test_row_that_leads_out_is_damage(name):
    """Such a tree does not count, though its digest agrees."""
    entries = [TreeEntry(name, 1, DIGEST)]
    with pytest.raises(DamagedRecordError):
        decode_tree(encode_tree(entries), tree_digest(entries))


@given(NAMES, NAMES)
def test_hub_ids_stay_in_the_cache(name, revision):
    """An id and a revision that are accepted name a folder of the cache, and a file of its references."""
    world = World(Mirrors(), CachedDigester(), 0, lambda _: None, Path("/cache"))
    try:
        found = resolve_source(InputModel(hub=name, revision=revision or None), "model", ROOT, world)
    except (UserError, ValueError):
        return
    assert found.hub is not None
    repository = Path("/cache") / f"models--{name.replace('/', '--')}"
    assert Path("/cache") == repository.parent
    assert inside(repository / "refs" / (revision or "main"), repository / "refs")


@pytest.mark.parametrize("name", ["../x", "a/../b", "a/b/c", "/a", "a/b\n", ".a/b", "a/.b", "a--b/c", "~/a"])
def test_hub_id_that_leads_out_is_refused(name):
    """These are no ids."""
    world = World(Mirrors(), CachedDigester(), 0, lambda _: None, Path("/cache"))
    with pytest.raises(UserError, match="is not a hub id"):
        resolve_source(InputModel(hub=name), "model", ROOT, world)


def test_reference_of_the_cache_is_a_commit_or_nothing(tmp_path):
    """What a file in the cache says enters paths only when it is forty hexadecimal digits."""
    (tmp_path / "models--a--b" / "refs").mkdir(parents=True)
    place = tmp_path / "models--a--b" / "refs" / "main"
    for text, commit in (("../../x", None), ("0" * 40, "0" * 40), ("0" * 40 + "/..", None)):
        place.write_text(text)
        assert commit == cached_commit(tmp_path, "model", "a/b", None)


@pytest.mark.parametrize("name", ["../x", "a/b", "a\n", ".", "a\0", "a b", "-a", "~", "a@b"])
def test_name_of_a_stage_that_could_be_a_path_is_refused(name, tmp_path):
    """Names of stages become folders."""
    (tmp_path / "m").mkdir()
    stages = {name: {"kind": "export", "model": {"path": "m"}}}
    spec = tmp_path / "spec.yaml"
    spec.write_text("schema: 1\nstages: " + json.dumps(stages) + "\n")
    with pytest.raises(UserError, match=r"cannot be the name of a stage|control character|escape"):
        load_pipeline(spec)


@given(value=NAMES)
def test_values_of_variants_make_names_that_are_no_paths(value, tmp_path_factory):
    """A value of an axis becomes part of a folder's name, and only as far as it can be one."""
    folder = tmp_path_factory.mktemp("variants")
    spec = folder / "spec.yaml"
    stage = {"kind": "export", "model": {"path": "m"}, "description": "${axis}"}
    text = {"schema": 1, "matrix": {"axis": [value, "other"]}, "stages": {"card": stage}}
    spec.write_text(json.dumps(text))
    try:
        names = list(load_pipeline(spec).stages)
    except UserError:
        return
    for name in names:
        work = Layout(ROOT).work(name, DIGEST)
        assert (ROOT / "work", True) == (work.parent, name.isprintable() and "/" not in name)
