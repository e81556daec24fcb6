"""One spec from several files: include, overlays, where things come from."""

from __future__ import annotations

from pathlib import Path

import pytest

from rlhfc.compile.digests import CachedDigester
from rlhfc.compile.pipeline import compile_pipeline
from rlhfc.compile.world import this_machine
from rlhfc.spec.load import load_pipeline

BASE = """
defaults: {epochs: 3, lora: {rank: 8}}
stages:
  split:
    kind: data_split
    tokenizer: {hub: a/b, revision: v1}
    sources: [{data: {path: pairs.jsonl}, columns: {prompt: p, chosen: c, rejected: r}}]
  sft: {kind: sft, model: {hub: a/b, revision: v1}, data: split.sft, lora: {rank: 4, alpha: 2}}
  extra: {kind: export, model: sft.model}
"""
MAIN = """schema: 1
include: [parts/base.yaml]
stages:
  sft: {epochs: 1, lora: {rank: 16}, betas: [0.8, 0.9]}
  extra: null
"""
OVER = """
stages:
  sft: {epochs: 5, model: {path: model}}
  split: {sources: [{data: {path: over.jsonl}, columns: {prompt: p, response: c}}]}
"""


@pytest.fixture
def write(tmp_path):
    """Writes files below the test's folder, and returns the path of the first."""

    def writing(**texts: str) -> Path:
        for name, text in texts.items():
            path = tmp_path / f"{name.replace('__', '/')}.yaml"
            path.parent.mkdir(exist_ok=True)
            path.write_text(text, encoding="utf-8")
        return tmp_path / f"{next(iter(texts)).replace('__', '/')}.yaml"

    return writing


def test_file_lies_over_what_it_includes(write):
    """Mappings merge deeply, lists and scalars are replaced, a stage that is null is gone."""
    stages = load_pipeline(write(main=MAIN, parts__base=BASE)).stages
    sft = stages["sft"].params
    assert ["split", "sft"] == list(stages)
    assert (1, 16, 2.0, [0.8, 0.9], "a/b") == (
        sft.epochs, sft.lora.rank, sft.lora.alpha, sft.betas, sft.model.hub
    )  # fmt: skip


def test_later_include_lies_over_earlier(write):
    """Of two files that say the same thing differently, the later in the list holds."""
    text = "schema: 1\ninclude: [a.yaml, b.yaml]\nstages: {e: {kind: export, model: {path: m}}}\n"
    path = write(main=text, a="name: a\ndescription: of a\n", b="name: b\n")
    assert ("b", "of a") == (load_pipeline(path).name, load_pipeline(path).description)


def test_include_of_include_and_diamond(write):
    """An included file includes others, from its own folder; one that is met twice is read once."""
    path = write(
        main=MAIN,
        parts__base=f"include: [shared.yaml, more.yaml]\n{BASE}",
        parts__more="include: [shared.yaml]\n",
        parts__shared="name: shared\n",
    )
    read: list[str] = []
    spec = load_pipeline(path, read=lambda file: (read.append(file.name), file.read_bytes())[1])
    assert "shared" == spec.name
    assert ["main.yaml", "base.yaml", "shared.yaml", "more.yaml"] == read
    assert read == [file.name for file in spec.files]
    assert all(file.is_absolute() for file in spec.files)


def test_overlay_lies_over_the_spec(write):
    """An overlay is merged as the spec is over its includes; a later one wins; `--set` wins over all."""
    path = write(main=MAIN, parts__base=BASE, over=OVER, last="stages: {sft: {epochs: 6, seed: 6}}\n")
    overlays = [path.with_name("over.yaml"), path.with_name("last.yaml")]
    sft = load_pipeline(path, ["sft.seed=7"], overlays).stages["sft"].params
    assert (6, 7, 16) == (sft.epochs, sft.seed, sft.lora.rank)


def test_source_is_replaced_whole(write):
    """A source of another origin replaces the one below; without an origin, it is merged."""
    path = write(main=MAIN, parts__base=BASE, over=OVER, commit="stages: {sft: {model: {revision: v2}}}\n")
    other = load_pipeline(path, overlays=[path.with_name("over.yaml")]).stages["sft"].params.model
    assert ("model", None, None) == (other.path, other.hub, other.revision)
    newer = load_pipeline(path, overlays=[path.with_name("commit.yaml")]).stages["sft"].params.model
    assert ("a/b", "v2") == (newer.hub, newer.revision)


def test_each_value_is_located_in_its_own_file(write):
    """Marks of values, defaults and stages name the file that says so."""
    path = write(main=MAIN, parts__base=BASE, over=OVER)
    sft = load_pipeline(path, ["sft.seed=7"], [path.with_name("over.yaml")]).stages["sft"]
    places = {field: sft.locate((field,)) for field in ("epochs", "betas", "data", "seed")}
    assert {
        "epochs": "over.yaml:3",
        "betas": "main.yaml:4",
        "data": "base.yaml:8",
        "seed": "--set:0",
    } == {field: f"{mark.file.name}:{mark.line}" for field, mark in places.items()}
    assert ("base.yaml", 8) == (sft.mark.file.name, sft.mark.line), "where the stage is first written"


def test_path_is_relative_to_the_file_that_says_so(write, tmp_path):
    """A source lies beside the file that names it: included, overlay; of `--set`, beside the spec."""
    base = "stages:\n  e: {kind: export, model: {path: m}}\n  f: {kind: export, model: {path: m}}\n"
    path = write(
        top__main="schema: 1\ninclude: [../parts/base.yaml]\nstages: {g: {kind: export, model: {path: m}}}\n",
        parts__base=base,
        other__over="stages: {f: {model: {path: m}}, h: {kind: export}}\n",
    )
    for folder in ("top", "parts", "other"):
        (tmp_path / folder / "m").mkdir()
        (tmp_path / folder / "m" / "config.json").write_text("{}")
    spec = load_pipeline(path, ["h.model={path: m}"], [tmp_path / "other" / "over.yaml"])
    actions = compile_pipeline(spec, this_machine([], CachedDigester())).actions
    folders = {name: actions[name].inputs["model"].path.resolve().parent.name for name in sorted(actions)}
    assert {"e": "parts", "f": "other", "g": "top", "h": "top"} == folders
    assert {"e": "base.yaml", "g": "main.yaml", "h": "over.yaml"} == {
        name: actions[name].file.name for name in "egh"
    }


def test_folder_of_kinds_is_relative_to_the_file_that_says_so(write, tmp_path):
    """An included file finds its kinds beside itself."""
    folder = tmp_path / "parts" / "mine" / "thing"
    path = write(
        main="schema: 1\ninclude: [parts/base.yaml]\n",
        parts__base="kinds: [mine]\nstages: {t: {kind: thing}}\n",
    )
    folder.mkdir(parents=True)
    (folder / "kind.py").write_text(
        "from rlhfc.kind import Kind, StageParams\n"
        "KIND = Kind(name='thing', abi=1, params=StageParams, inputs={}, outputs={})\n"
    )
    assert folder == load_pipeline(path).stages["t"].loaded.folder
