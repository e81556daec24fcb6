"""Variants of stages: which there are, what they are called, what they read."""

from __future__ import annotations

import pytest

from rlhfc.compile.digests import CachedDigester
from rlhfc.compile.pipeline import compile_pipeline
from rlhfc.compile.world import this_machine
from rlhfc.errors import UserError
from rlhfc.spec import variables
from rlhfc.spec.inputs import inputs_of
from rlhfc.spec.load import load_pipeline
from rlhfc.spec.references import fill

HEAD = """schema: 1
matrix:
  kl: [0.02, 0.05]
  lr: [0.000001, 5e-6, 1e-5]
  start: [sft.model, plain.model]
  exclude: [{kl: 0.05, lr: 5e-6}, {lr: 1e-5}]
"""
STAGES = """stages:
  split:
    kind: data_split
    tokenizer: {path: m}
    sources: [{data: {path: p.jsonl}, columns: {prompt: p, chosen: c, rejected: r}}]
  sft: {kind: sft, model: {path: m}, data: split.sft}
  plain: {kind: sft, model: {path: m}, data: split.sft, epochs: 2}
  tune: {kind: sft, model: "${matrix.start}", data: split.sft, dropout: "${matrix.kl}"}
  again: {kind: sft, model: tune.model, data: {ref: split.sft}, learning_rate: "${matrix.lr}"}
  best: {kind: export, model: "again@kl=0.02,lr=1e-06,start=sft.model.model"}
"""


def reads(spec) -> dict[str, list[str]]:
    """References of each stage."""
    return {
        name: [found.ref for found in inputs_of(stage.params).values() if found.ref is not None]
        for name, stage in spec.stages.items()
    }


def test_stage_is_multiplied_over_what_it_uses_and_reads(write):
    """Own axes and those of what it reads; excluded choices vanish; what uses none stays one stage."""
    spec = load_pipeline(write(HEAD + STAGES))
    assert {
        "split": [],
        "sft": ["split.sft"],
        "plain": ["split.sft"],
        "tune@kl=0.02,start=sft.model": ["sft.model", "split.sft"],
        "tune@kl=0.02,start=plain.model": ["plain.model", "split.sft"],
        "tune@kl=0.05,start=sft.model": ["sft.model", "split.sft"],
        "tune@kl=0.05,start=plain.model": ["plain.model", "split.sft"],
        "again@kl=0.02,lr=1e-06,start=sft.model": ["tune@kl=0.02,start=sft.model.model", "split.sft"],
        "again@kl=0.02,lr=1e-06,start=plain.model": ["tune@kl=0.02,start=plain.model.model", "split.sft"],
        "again@kl=0.02,lr=5e-06,start=sft.model": ["tune@kl=0.02,start=sft.model.model", "split.sft"],
        "again@kl=0.02,lr=5e-06,start=plain.model": ["tune@kl=0.02,start=plain.model.model", "split.sft"],
        "again@kl=0.05,lr=1e-06,start=sft.model": ["tune@kl=0.05,start=sft.model.model", "split.sft"],
        "again@kl=0.05,lr=1e-06,start=plain.model": ["tune@kl=0.05,start=plain.model.model", "split.sft"],
        "best": ["again@kl=0.02,lr=1e-06,start=sft.model.model"],
    } == reads(spec)
    assert ["again@kl=0.02,lr=1e-06,start=sft.model"] == list(spec.graph.predecessors("best"))


def test_variant_has_its_values(write):
    """A variant knows the values of its axes, with their types, and its fields have them."""
    stages = load_pipeline(write(HEAD + STAGES)).stages
    again = stages["again@kl=0.02,lr=5e-06,start=plain.model"]
    assert {"kl": 0.02, "lr": 5e-6, "start": "plain.model"} == again.variant
    assert (5e-6, "again") == (again.params.learning_rate, again.called)
    assert 0.02 == stages["tune@kl=0.02,start=plain.model"].params.dropout
    assert {} == stages["sft"].variant


def test_value_is_located_on_its_axis(write):
    """The place of a value from the matrix is its place on the axis."""
    stage = load_pipeline(write(HEAD + STAGES)).stages["tune@kl=0.05,start=sft.model"]
    assert (3, 14) == (stage.locate(("dropout",)).line, stage.locate(("dropout",)).column)


def test_set_comes_before_the_matrix(write):
    """A field that is set is the same in all variants; an axis that it no longer uses makes none."""
    spec = load_pipeline(
        write(HEAD + STAGES),
        [
            "again.epochs=7",
            "best.model=sft.model",
            "tune.model=sft.model",
            "matrix.kl=[0.3]",
        ],
    )
    assert {"again@kl=0.3,lr=1e-06": 7, "again@kl=0.3,lr=5e-06": 7} == {
        name: stage.params.epochs for name, stage in spec.stages.items() if name.startswith("again")
    }


def test_defaults_and_variables_bring_their_axes(write):
    """A default with an axis multiplies the stages that take it; axes may be made of variables."""
    text = """schema: 1
vars: {rates: [1, 2], seed: "${matrix.seed}"}
matrix: {seed: "${rates}"}
defaults: {seed: "${seed}"}
stages:
  a: {kind: export, model: {path: m}}
  b: {kind: export, model: {path: m}, seed: 5}
"""
    stages = load_pipeline(write(text)).stages
    assert {"a@seed=1": 1, "a@seed=2": 2, "b": 5} == {
        name: stage.params.seed for name, stage in stages.items()
    }


def test_names_of_values(write):
    """Numbers are called by their shortest form, words as they are, other text by its safe characters."""
    text = """schema: 1
matrix: {x: [1.0, 1, true, null, 1e+20, "a b/c", é_ü, "1.5"]}
stages: {a: {kind: export, model: {path: m}, description: "<${matrix.x}>"}}
"""
    stages = load_pipeline(write(text)).stages
    assert {
        "a@x=1.0": "<1.0>",
        "a@x=1": "<1>",
        "a@x=true": "<true>",
        "a@x=null": "<null>",
        "a@x=1e+20": "<1e+20>",
        "a@x=a-b-c": "<a b/c>",
        "a@x=_": "<é_ü>",
        "a@x=1.5": "<1.5>",
    } == {name: stage.params.description for name, stage in stages.items()}


def test_axis_is_removed_by_an_overlay(write, tmp_path):
    """`matrix: {axis: null}` in an overlay takes the axis away, so that its use becomes a mistake."""
    over = tmp_path / "over.yaml"
    over.write_text("matrix: {start: null}\nstages: {tune: {model: sft.model}, best: null}\n")
    names = list(load_pipeline(write(HEAD + STAGES), overlays=[over]).stages)
    assert ["tune@kl=0.02", "tune@kl=0.05"] == [name for name in names if name.startswith("tune")]
    over.write_text("matrix: {start: null}\n")
    with pytest.raises(UserError, match="there is no axis `start`"):
        load_pipeline(write(HEAD + STAGES), overlays=[over])


def test_mistake_of_all_variants_is_told_once(write):
    """What is wrong with every variant is one mistake, called as the spec calls the stage."""
    path = write(HEAD + STAGES.replace("data: {ref: split.sft}", "data: {ref: split.rewrd}, epoch: 1"))
    with pytest.raises(UserError) as caught:
        load_pipeline(path)
    assert ["again.data: stage `split` has no output `rewrd`", "again: unknown field `epoch`"] == [
        found.message for found in caught.value.diagnostics
    ]


def test_circle_of_variants_is_told_once(write):
    """Stages that wait for each other are named without their variants."""
    path = write(
        "schema: 1\nmatrix: {x: [1, 2]}\nstages:\n"
        "  a: {kind: sft, model: b.model, data: {path: d}, seed: '${matrix.x}'}\n"
        "  b: {kind: sft, model: a.model, data: {path: d}}\n"
    )
    with pytest.raises(UserError) as caught:
        load_pipeline(path)
    assert ["stages wait for each other: a → b → a"] == [found.message for found in caught.value.diagnostics]


def test_source_that_all_variants_miss_is_told_once(write):
    """What compiling finds wrong with every variant is one mistake too."""
    spec = load_pipeline(
        write(
            "schema: 1\nmatrix: {x: [1, 2]}\n"
            "stages: {a: {kind: export, model: {path: m}, seed: '${matrix.x}'}}\n"
        )
    )
    with pytest.raises(UserError) as caught:
        compile_pipeline(spec, this_machine([], CachedDigester()))
    assert [f"a.model: `{spec.path.parent / 'm'}` does not exist"] == [
        found.message for found in caught.value.diagnostics
    ]


def test_comma_that_ends_a_variants_name_is_hinted_at(write):
    """In a flow mapping a variant's name must be quoted, and the hint says so."""
    path = write(
        HEAD
        + STAGES.replace('"again@kl=0.02,lr=1e-06,start=sft.model.model"', "again@kl=0.02,lr=1e-06.model")
    )
    with pytest.raises(UserError) as caught:
        load_pipeline(path)
    assert (
        "best.model: `again@kl=0.02` is not a reference: write `stage.port`, or `path:` or `hub:`",
        'quote the whole name: `"ppo@kl=0.02,lr=1e-06.actor"`',
    ) == (caught.value.diagnostics[0].message, caught.value.diagnostics[0].hint)


def test_variables_without_an_axis_are_filled_once(tmp_path, monkeypatch):
    """However many variants there are: thousands of both would otherwise take minutes."""
    filled = []
    monkeypatch.setattr(
        variables, "fill", lambda node, values: filled.append(node.text) or fill(node, values)
    )

    def count(axis):
        filled.clear()
        (tmp_path / "s.yaml").write_text(
            f"schema: 1\nvars: {{n: 2, m: '${{n}}', k: '${{matrix.kl}}'}}\nmatrix: {{kl: {axis}}}\nstages:\n"
            "  e: {kind: export, model: {path: m}, max_response_tokens: '${m}', seed: '${k}'}\n"
        )
        load_pipeline(tmp_path / "s.yaml")
        return filled.count("${n}"), filled.count("${matrix.kl}")

    (once, few), (again, many) = count([1]), count([1, 2, 3])
    assert (once, few + 2) == (again, many)
