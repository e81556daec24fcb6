"""The JSON Schema says what loading says."""

from __future__ import annotations

import json
from pathlib import Path

import jsonschema
import pytest

from rlhfc.compile.kinds import load_kinds
from rlhfc.spec.parse import parse_file, parse_text
from rlhfc.spec.schema import overlay_schema, pipeline_schema, schema_texts

ROOT = Path(__file__).parents[2]
KINDS = load_kinds([])
VALIDATOR = jsonschema.Draft202012Validator(pipeline_schema(KINDS))
OVERLAY = jsonschema.Draft202012Validator(overlay_schema(KINDS))
EXPORT = "  export: {kind: export, model: {path: m}}\n"


def complaints(text: str, validator: jsonschema.Draft202012Validator = VALIDATOR) -> list[str]:
    """Places of a YAML text that the schema refuses."""
    errors = validator.iter_errors(parse_text(text, Path("x")).plain())
    return sorted({error.json_path for error in errors})


def test_schema_is_a_schema():
    """The generated documents follow their own dialect."""
    jsonschema.Draft202012Validator.check_schema(pipeline_schema(KINDS))
    jsonschema.Draft202012Validator.check_schema(overlay_schema(KINDS))


def test_committed_schema_is_fresh():
    """`schemas/` holds what the stage kinds say; `rlhfc schema` writes it."""
    for name, text in schema_texts(KINDS).items():
        assert (ROOT / "schemas" / name).read_text(encoding="utf-8") == text, name


@pytest.mark.parametrize("path", sorted((ROOT / "pipelines").glob("*.yaml")), ids=lambda path: path.name)
def test_shipped_pipelines_are_valid(path):
    """Each pipeline that we ship passes the schema and names it for editors."""
    assert [] == list(VALIDATOR.iter_errors(parse_file(path).plain()))
    first = path.read_text(encoding="utf-8").splitlines()[0]
    assert "# yaml-language-server: $schema=../schemas/pipeline.schema.json" == first


def test_every_setting_has_its_impact():
    """`x-impact` of each field of each kind is the one that its model declares, else semantic."""
    definitions = pipeline_schema(KINDS)["$defs"]
    for loaded in KINDS.values():
        model = loaded.kind.params
        declared = {
            name: (info.json_schema_extra or {}).get("impact", "semantic")
            for name, info in model.model_fields.items()
        }
        properties = definitions[model.__name__]["properties"]
        told = {name: schema["x-impact"] for name, schema in properties.items() if name != "kind"}
        assert declared == told


@pytest.mark.parametrize(
    "model", ["sft.model", "{path: m}", "{path: m, file: f.gguf}", "{hub: a/b, revision: v1}"]
)
def test_references_and_sources_are_accepted(model):
    """An input is text or a mapping with one origin."""
    assert [] == complaints(f"schema: 1\nstages:\n  export: {{kind: export, model: {model}}}\n")


@pytest.mark.parametrize(
    "model", ["sft", "{}", "{path: m, hub: a/b}", "{path: m, revision: v}", "5", "[a.b]"]
)
def test_other_forms_of_inputs_are_refused(model):
    """What loading refuses as an input, the schema marks too."""
    assert ["$.stages.export.model"] == complaints(
        f"schema: 1\nstages:\n  export: {{kind: export, model: {model}}}\n"
    )


REFUSED = {
    "unknown field": ("$.stages.export", "schema: 1\nstages:\n  export: {kind: export, model: a.b, x: 1}\n"),
    "missing field": ("$.stages.export", "schema: 1\nstages:\n  export: {kind: export}\n"),
    "unknown kind": ("$.stages.export.kind", "schema: 1\nstages:\n  export: {kind: exprt}\n"),
    "no kind": ("$.stages.export", "schema: 1\nstages:\n  export: {model: a.b}\n"),
    "name of a stage": ("$.stages", "schema: 1\nstages:\n  2nd: {kind: export, model: a.b}\n"),
    "version": ("$.schema", f"schema: 2\nstages:\n{EXPORT}"),
    "no version": ("$", f"stages:\n{EXPORT}"),
    "no stages": ("$.stages", "schema: 1\nstages: {}\n"),
    "unknown default": ("$.defaults", f"schema: 1\ndefaults: {{learning: 1}}\nstages:\n{EXPORT}"),
    "wrong default": ("$.defaults.dtype", f"schema: 1\ndefaults: {{dtype: 16}}\nstages:\n{EXPORT}"),
}


@pytest.mark.parametrize("case", REFUSED)
def test_mistakes_are_marked(case):
    """An editor marks the mistake at its place."""
    place, text = REFUSED[case]
    assert [place] == complaints(text)


def test_defaults_may_complete_a_stage():
    """With `defaults`, a stage may leave a required field out."""
    assert [] == complaints("schema: 1\ndefaults: {model: {path: m}}\nstages:\n  export: {kind: export}\n")


def test_kinds_of_the_users_own_are_accepted():
    """With `kinds`, unknown kinds and defaults pass, and known kinds are still checked."""
    head = "schema: 1\nkinds: [./mine]\ndefaults: {level: 1}\nstages:\n  rows: {kind: filter, any: 1}\n"
    assert [] == complaints(head)
    assert ["$.stages.export.dtype"] == complaints(
        head + "  export: {kind: export, model: a.b, dtype: fp8}\n"
    )


FILLED = """schema: 1
vars: {anything: [1, {a: b}]}
matrix: {kl: [0.1, 1, x, true], lr: "${rates}", exclude: [{kl: 0.1}]}
defaults: {epochs: "${n}", lora: "${lora}", betas: ["${b}", 0.9]}
kinds: []
stages:
  whole: "${stage}"
  export: {kind: export, model: "${m}", seed: "${matrix.seed}", device: "${d}"}
  sft: {kind: sft, model: {path: "${m}/x"}, data: "${s}.sft", lora: {rank: "${r}", targets: ["${t}"]}}
"""


def test_text_may_stand_for_any_value():
    """Wherever a value can be replaced, a text with `${…}` passes."""
    assert [] == complaints(FILLED)


@pytest.mark.parametrize("kind", KINDS)
def test_every_field_may_be_replaced(kind):
    """Each field of each kind takes `${…}`, and not any other text instead of a number or mapping."""
    fields = KINDS[kind].kind.params.model_fields
    stages = {"a": {"kind": kind, **dict.fromkeys(fields, "a ${x}")}}
    assert [] == list(OVERLAY.iter_errors({"stages": stages}))
    refused = OVERLAY.iter_errors(
        {"stages": {"a": {"kind": kind, "seed": "x", "device": "$", "ranks": "{}"}}}
    )
    assert ["$.stages.a.device", "$.stages.a.ranks", "$.stages.a.seed"] == sorted(
        e.json_path for e in refused
    )


OVERLAID = (
    "defaults: {epochs: 2}\nstages: {sft: {epochs: 2}, ppo: null, e: {kind: export}}\nmatrix: {kl: null}\n"
)


def test_overlay_need_not_be_whole():
    """An overlay, and a spec that includes others, may leave anything out; a whole spec may not."""
    assert [] == complaints(OVERLAID, OVERLAY)
    assert [] == complaints(f"include: [base.yaml]\n{OVERLAID}")
    assert ["$", "$.stages.e", "$.stages.ppo", "$.stages.sft"] == complaints(
        OVERLAID.replace("defaults: {epochs: 2}\n", "")
    )


def test_mistakes_in_overlays_are_marked():
    """What an overlay does say is checked."""
    text = (
        "stages: {sft: {kind: sft, epochs: two, lora: {rnk: 2}}}\nstage: {}\nmatrix: {a: 1, exclude: [5]}\n"
    )
    assert [
        "$",
        "$.matrix.a",
        "$.matrix.exclude[0]",
        "$.stages.sft.epochs",
        "$.stages.sft.lora",
    ] == complaints(text, OVERLAY)


def test_a_stage_of_an_overlay_without_its_kind():
    """Fields that some kind has are checked and completed; others may be of a kind of the user's own."""
    text = "stages: {ppo: {kl_coef: high, epochs: 2, mine: 5}, gone: null}\n"
    assert ["$.stages.ppo.kl_coef"] == complaints(text, OVERLAY)


def branches(schema):
    """Every schema below a schema, itself included."""
    if isinstance(schema, dict):
        yield schema
    for below in schema.values() if isinstance(schema, dict) else schema if isinstance(schema, list) else ():
        yield from branches(below)


@pytest.mark.parametrize("schema", [pipeline_schema(KINDS), overlay_schema(KINDS)], ids=["spec", "overlay"])
def test_what_editors_make_of_it(schema):
    """Values of closed sets stand where editors look for them, and no description hides that of a field."""
    properties = schema["$defs"]["PpoParams"]["properties"]
    assert "weight of the per-token KL penalty" == properties["kl_coef"]["description"]
    assert ["auto", "cpu", "gpu"] == properties["device"]["anyOf"][0]["enum"]
    hidden = [below["else"] for below in branches(schema) if "else" in below]
    assert [] == [form for form in hidden if "enum" in form or form.get("type") == "boolean"]
    kinds = {loaded.kind.params.__name__ for loaded in KINDS.values()}
    assert kinds == {name for name, form in schema["$defs"].items() if "description" in form}


def test_schema_is_json_without_machine_paths():
    """The texts are stable JSON that ends with a line break and names no folder of this machine."""
    for text in schema_texts(KINDS).values():
        assert text == json.dumps(json.loads(text), indent=2, ensure_ascii=False) + "\n"
        assert str(ROOT) not in text
