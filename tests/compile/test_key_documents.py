"""Keys: golden vectors, what they are equal under, and what leaves them undecided."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path

import pytest
import yaml
from bench import Bench
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from rlhfc.compile.action import Action, LoadedKind, ResolvedSource, UpstreamOutput
from rlhfc.compile.keys import KeyDocument, Undecided, key_document
from rlhfc.compile.reasons import Reason, ReasonCode
from rlhfc.compile.world import major_minor
from rlhfc.kind import Input, Kind, StageParams, numeric, runtime, semantic
from rlhfc.store.digest import canonical_json

ZEROS = f"b3:{'0' * 64}"


class FitParams(StageParams):
    """One leaf of each impact and an input of each origin."""

    model: Input = semantic()
    data: Input = semantic()
    rate: float = semantic(1e-5)
    words: str = semantic("é")
    buckets: int = numeric(4)
    every: int = runtime(7)


@pytest.fixture
def action(tmp_path: Path) -> Action:
    """An action whose key document fits on a screen."""
    folder = tmp_path / "fit"
    folder.mkdir()
    (folder / "launch.argv.j2").write_text("{{ launch.python }}\n-m\n{{ module }}\n{{ config }}\n")
    kind = Kind("fit", 2, FitParams, {"model": "model", "data": "data"}, {"model": "model"}, ("torch",))
    inputs = {
        "model": ResolvedSource("hub:a/b", f"hub:{'1' * 40}"),
        "data": UpstreamOutput("split", "rows"),
    }
    params = FitParams(model={"hub": "a/b"}, data={"ref": "split.rows"})
    loaded = LoadedKind(kind, folder, "fit.main", tmp_path)
    return Action("p", "fit", loaded, params, inputs, None, "cpu", code={"fit/main.py": "b3:11"})


def libraries(name: str) -> str | None:
    """A machine with torch alone."""
    return {"torch": "2.13.1+cpu"}.get(name)


def test_a_key_document_as_a_whole(action: Action) -> None:
    """Golden vector: the document, its key, and what is recorded beside it."""
    document = {
        "kind": "fit",
        "abi": 2,
        "argv": ["<launch.python>", "-m", "fit.main", "<config>"],
        "config": {
            "params": {
                "numerics": "recorded",
                "seed": 1234,
                "model": "model",
                "data": "data",
                "rate": 1e-05,
                "words": "é",
            },
            "settings": {},
            "deepspeed": {},
        },
        "inputs": {"model": f"hub:{'1' * 40}", "data": ZEROS},
        "code": {"fit/main.py": "b3:11"},
        "libraries": {"torch": "2.13"},
    }
    recorded = {
        "params.device": "cpu",
        "params.ranks": 1,
        "params.threads": 1,
        "params.log_every": 10,
        "params.retries": 3,
        "params.retry_delay": 10.0,
        "params.timeout": None,
        "params.no_progress_timeout": 1800.0,
        "params.environment": {},
        "params.buckets": 4,
        "params.every": 7,
        "libraries.torch": "2.13.1+cpu",
    }
    key = "b3:2862dc0512d0ad41b211f6196a36c17c1ca94782856b56a330ba1535359f66eb"
    known = key_document(action, {("split", "rows"): ZEROS}, libraries)
    assert KeyDocument(document, key, recorded) == known
    assert {"document": document, "recorded": recorded, "origins": {}} == known.stored


def test_missing_parts_are_named_and_never_guessed(action: Action) -> None:
    """Each part that is not known is a reason, and the partial document lacks exactly these."""
    unresolved = ResolvedSource("hub:a/b", None, unresolved="not known here")
    action.inputs["model"] = unresolved  # type: ignore[index]
    known = key_document(action, {}, lambda name: None)
    assert isinstance(known, Undecided)
    assert (
        Reason(ReasonCode.SOURCE_UNRESOLVED, "model", after="not known here"),
        Reason(ReasonCode.UPSTREAM_PENDING, "data", after="split.rows"),
        Reason(ReasonCode.LIBRARY_MISSING, "torch"),
    ) == known.reasons
    assert ({}, {}) == (known.document["inputs"], known.document["libraries"])


@pytest.mark.parametrize(
    ("version", "expected"),
    [("2.13.0+cpu", "2.13"), ("5.23.0.dev0", "5.23"), ("4", "4"), ("1.0rc1", "1.0"), ("git", "git")],
)
def test_major_and_minor(version: str, expected: str) -> None:
    """A patch, a build and a local version do not decide numbers."""
    assert expected == major_minor(version)


COSMETIC = {
    "comments": lambda text: text.replace("\n", "  # why\n"),
    "blank lines": lambda text: text.replace("\n  ", "\n\n  "),
    "line ends": lambda text: text.replace("\n", "\r\n"),
    "flow style": lambda text: yaml.safe_dump(yaml.safe_load(text), default_flow_style=True),
    "sorted fields": lambda text: yaml.safe_dump(yaml.safe_load(text), sort_keys=True),
    "defaults written out": lambda text: text.replace("kind: ppo\n", "kind: ppo\n    kl_coef: 0.1\n"),
    "a whole number for a float": lambda text: text.replace("kind: ppo\n", "kind: ppo\n    gamma: 1\n"),
    "another notation": lambda text: text.replace("kind: ppo\n", "kind: ppo\n    kl_coef: 1.0e-1\n"),
}


@pytest.mark.parametrize("edit", COSMETIC)
def test_cosmetic_edits_of_the_spec(edit: str, bench: Bench, all_kinds: str) -> None:
    """What the spec says enters the keys, not how it says it."""
    edited = COSMETIC[edit](all_kinds)
    assert all_kinds != edited
    assert bench.keys(all_kinds) == bench.keys(edited)


@settings(max_examples=15, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(order=st.randoms(use_true_random=False))
def test_the_order_of_fields_and_stages(order: object, shared_bench: Bench, all_kinds: str) -> None:
    """Any order of mappings gives the same keys."""

    def shuffled(value: object) -> object:
        if isinstance(value, dict):
            items = [(key, shuffled(item)) for key, item in value.items()]
            order.shuffle(items)  # type: ignore[attr-defined]
            return dict(items)
        return [shuffled(item) for item in value] if isinstance(value, list) else value

    edited = yaml.safe_dump(shuffled(yaml.safe_load(all_kinds)), sort_keys=False)
    assert shared_bench.keys(all_kinds) == shared_bench.keys(edited)


def test_the_version_of_a_kind(action: Action) -> None:
    """A bump of `abi` by hand is another key, and the only difference."""
    outputs = {("split", "rows"): ZEROS}
    loaded = replace(action.loaded, kind=replace(action.kind, abi=3))
    before = key_document(action, outputs, libraries)
    after = key_document(replace(action, loaded=loaded), outputs, libraries)
    assert isinstance(before, KeyDocument)
    assert isinstance(after, KeyDocument)
    assert before.key != after.key
    assert before.document | {"abi": 3} == after.document


def test_a_new_leaf_that_does_not_decide(action: Action) -> None:
    """A numeric or runtime field more, with any value, leaves every key where it was."""

    class WiderParams(FitParams):
        width: int = numeric(1)
        pace: int = runtime(2)

    wider = WiderParams(model={"hub": "a/b"}, data={"ref": "split.rows"}, pace=3)
    outputs = {("split", "rows"): ZEROS}
    before = key_document(action, outputs, libraries)
    after = key_document(replace(action, params=wider), outputs, libraries)
    assert isinstance(before, KeyDocument)
    assert isinstance(after, KeyDocument)
    assert before.key == after.key
    assert {**before.recorded, "params.width": 1, "params.pace": 3} == after.recorded


@pytest.mark.parametrize("leaf", ["trial_prompts=8", "max_response_tokens=8", "seed=8"])
def test_settings_that_nobody_reads(leaf: str, bench: Bench, all_kinds: str) -> None:
    """What `ppo` does not read of `engine_init` is neither handed to it nor in its key."""
    before, after = bench.documents(all_kinds), bench.documents(all_kinds, [f"engines.{leaf}"])
    assert ["engines"] == [name for name in before if before[name].key != after[name].key]


def test_a_document_survives_its_storage(bench: Bench, all_kinds: str) -> None:
    """What the store reads back is what was hashed, so that comparisons show no false change."""
    for known in bench.documents(all_kinds).values():
        assert known.stored == json.loads(canonical_json(known.stored))
