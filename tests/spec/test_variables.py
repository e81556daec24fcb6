"""`${name}` in values: what it becomes, where it is located, what `--set` does to it."""

from __future__ import annotations

from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from rlhfc.errors import Mark, UserError
from rlhfc.spec.load import load_pipeline
from rlhfc.spec.nodes import Node
from rlhfc.spec.references import fill, pieces

HEAD = """schema: 1
name: run of ${size}
vars:
  size: 3
  rate: 1e-3
  flat: constant
  lora: {rank: "${rank}", alpha: "${size}"}
  rank: 8
  model: {path: "models/${size}-${flat}"}
  stage: split
  none: null
defaults: {learning_rate: "${rate}", lora: "${lora}"}
"""
STAGES = """stages:
  split:
    kind: data_split
    tokenizer: ${model}
    sources: [{data: {path: "data/${size}.jsonl"}, columns: {prompt: p, chosen: c, rejected: r}}]
  sft:
    kind: sft
    model: ${model}
    data: ${stage}.sft
    schedule: ${flat}
    max_steps: ${none}
    epochs: ${size}
    betas: [0.8, 0.9]
    description: "$${size} is ${size} at ${rate} $ {x} $$${size}"
"""


def test_whole_value_has_the_variables_type(write):
    """A value that is `${name}` takes number, null, mapping as they are; variables may use others."""
    path = write(HEAD + STAGES)
    sft = load_pipeline(path).stages["sft"].params
    assert (3, 1e-3, None, "constant", 8, 3.0) == (
        sft.epochs, sft.learning_rate, sft.max_steps, sft.schedule, sft.lora.rank, sft.lora.alpha
    )  # fmt: skip


def test_inside_text_it_is_text(write):
    """Inside longer text a variable is put in as written; the result is always text."""
    path = write(HEAD + STAGES)
    spec = load_pipeline(path)
    split, sft = spec.stages["split"].params, spec.stages["sft"].params
    assert ("run of 3", "models/3-constant", "data/3.jsonl", "split.sft") == (
        spec.name, sft.model.path, split.sources[0].data.path, sft.data.ref
    )  # fmt: skip
    assert "${size} is 3 at 1e-3 $ {x} $${size}" == sft.description


def test_value_is_located_where_the_variable_is_written(write):
    """A mistake in a variable's value is mended there; text put together is located where it is used."""
    spec = load_pipeline(write(HEAD + STAGES), ["vars.flat=linear"])
    places = {
        path: spec.stages["sft"].locate(path)
        for path in [("epochs",), ("schedule",), ("data",), ("lora", "rank")]
    }
    assert {
        ("epochs",): "spec.yaml:4",
        ("schedule",): "--set:0",
        ("data",): "spec.yaml:21",
        ("lora", "rank"): "spec.yaml:8",
    } == {path: f"{mark.file.name}:{mark.line}" for path, mark in places.items()}


def test_set_reaches_variables_and_defaults(write):
    """`--set` replaces values of `vars` and `defaults` before they are used."""
    path = write(HEAD + STAGES)
    sft = load_pipeline(path, ["vars.rank=2", "defaults.learning_rate=5e-4"]).stages["sft"].params
    assert (2, 5e-4) == (sft.lora.rank, sft.learning_rate)


def test_stage_may_be_called_as_the_top_level_is(write):
    """With a stage of that name, `--set vars.…` is about the stage."""
    path = write("schema: 1\nstages: {vars: {kind: export, model: {path: m}}}\n")
    assert 5 == load_pipeline(path, ["vars.seed=5"]).stages["vars"].params.seed


def test_stage_or_part_of_it_may_be_a_variable(write):
    """A variable may stand for a whole stage, whose values refer on."""
    text = "schema: 1\nvars: {e: {kind: export, model: {path: '${p}'}}, p: m}\nstages: {e: '${e}'}\n"
    assert "m" == load_pipeline(write(text)).stages["e"].params.model.path


def test_axis_is_not_mistaken_for_a_variable_of_its_name(write):
    """A stage, default or matrix that is an axis is not the variable that is called like the axis."""
    text = "schema: 1\nvars: {e: {kind: export, model: {path: m}}}\nmatrix: {e: [1]}\n"
    text += "stages: {a: '${e}', b: '${matrix.e}'}\n"
    with pytest.raises(UserError) as caught:
        load_pipeline(write(text))
    assert ["stages.b: expected a mapping, got `${matrix.e}`"] == [
        f.message for f in caught.value.diagnostics
    ]


def test_path_with_a_variable_is_relative_to_where_it_is_used(write, tmp_path):
    """Whether the variable is all of a path or a part of it, the file that says `path:` counts."""
    (tmp_path / "parts").mkdir()
    (tmp_path / "parts/base.yaml").write_text("vars: {where: m, model: {path: m}}\n")
    stages = "{a: {kind: export, model: {path: '${where}'}}, b: {kind: export, model: '${model}'}}"
    path = write(f"schema: 1\ninclude: [parts/base.yaml]\nstages: {stages}\n")
    stages = load_pipeline(path).stages
    assert [tmp_path, tmp_path / "parts"] == [
        stages[name].folder_of(("model", "path"), path) for name in ("a", "b")
    ]


def test_included_file_may_offer_more_than_is_used(write, tmp_path):
    """A variable of an included file need not be used."""
    (tmp_path / "base.yaml").write_text("vars: {unused: 1}\n")
    path = write("schema: 1\ninclude: [base.yaml]\nstages: {e: {kind: export, model: {path: m}}}\n")
    assert ["e"] == list(load_pipeline(path).stages)


@given(st.text(alphabet="a${}.:x m", max_size=20))
def test_pieces_are_the_text(text):
    """A text taken apart is all there, whatever stands in it."""
    assert text == "".join(piece.written for piece in pieces(text))


@given(st.text(alphabet="a${}b", max_size=12))
def test_what_is_put_in_is_not_read_again(value):
    """The text of a variable stands in the result as it is, even where it looks like a reference."""
    mark = Mark(Path("x"), 1, 1)
    filled = fill(
        Node("<${a}|${a}>", mark, text=""), {"a": Node(value, mark, text=value), "b": Node("", mark)}
    )
    assert f"<{value}|{value}>" == filled.data
