"""The JSON Schema of a spec, for editors: completion, hover texts, errors while typing."""

from __future__ import annotations

import json
import re
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from pydantic.json_schema import models_json_schema

from rlhfc.compile.action import LoadedKind
from rlhfc.kind import REFERENCE, InputModel, SpecModel
from rlhfc.spec.model import STAGE_NAME, SpecFile
from rlhfc.spec.references import EXCLUDE

FILE_NAME = "pipeline.schema.json"
DIALECT = "https://json-schema.org/draft/2020-12/schema"
OVERLAY_NAME = "overlay.schema.json"
_NOTES = ("description", "default", "x-impact")
_TAKEN_AS_WRITTEN = ("schema", "include", "vars")
"""Top-level fields in which nothing is replaced as a whole."""
_FILLED = "Filled"


def pipeline_schema(kinds: Mapping[str, LoadedKind]) -> dict[str, Any]:
    """Schema of a whole spec over these kinds; each setting has its ``x-impact``.

    A spec that names ``kinds:`` of its own may use kinds and defaults that the schema does not
    know. One with ``defaults:`` may leave required fields out of its stages, and one with
    ``include:`` anything at all.
    """
    parts = _parts(kinds)
    whole = {
        "required": ["schema", "stages"],
        "properties": {"stages": {"additionalProperties": _open({"type": "object", "required": ["kind"]})}},
        "allOf": [_closed(list(kinds), list(parts.fields)), _complete(parts.required)],
    }
    demands = [{"if": {"not": {"required": ["include"]}}, "then": whole}]
    return {
        "$schema": DIALECT,
        "title": "rlhfc pipeline",
        **parts.top,
        "allOf": demands,
        "$defs": parts.defs,
    }


def overlay_schema(kinds: Mapping[str, LoadedKind]) -> dict[str, Any]:
    """Schema of an overlay or included file: nothing is required, and a stage may be null.

    A stage without its kind has the fields that `defaults` may have: those of any kind.
    """
    parts = _parts(kinds)
    stage = parts.defs["Stage"]
    of_any_kind = {"if": {"not": {"required": ["kind"]}}, "then": {"properties": parts.fields}}
    defs = {**parts.defs, "Stage": {**stage, "allOf": [*stage["allOf"], of_any_kind]}}
    return {"$schema": DIALECT, "title": "rlhfc overlay", **parts.top, "$defs": defs}


def schema_texts(kinds: Mapping[str, LoadedKind]) -> dict[str, str]:
    """The schemas as they are written to files, by the files' names."""
    schemas = {FILE_NAME: pipeline_schema(kinds), OVERLAY_NAME: overlay_schema(kinds)}
    return {name: json.dumps(schema, indent=2, ensure_ascii=False) + "\n" for name, schema in schemas.items()}


@dataclass(frozen=True)
class _Parts:
    """What the schemas are made of.

    Attributes:
        top: the top level; nothing is required.
        defs: of stages and what is in them.
        fields: those that ``defaults`` may have.
        required: fields that a stage must have, by kind.
    """

    top: dict[str, Any]
    defs: dict[str, Any]
    fields: dict[str, Any]
    required: dict[str, list[str]]


def _parts(kinds: Mapping[str, LoadedKind]) -> _Parts:
    models: dict[str, type[SpecModel]] = {name: loaded.kind.params for name, loaded in kinds.items()}
    every: list[type[SpecModel]] = [SpecFile, *models.values()]
    generated = models_json_schema([(model, "validation") for model in every])[1]
    definitions: dict[str, Any] = _tidy(generated["$defs"])
    top = definitions.pop(SpecFile.__name__)
    del top["required"]
    source = _input(definitions.pop(InputModel.__name__)["properties"])
    required = {name: definitions[model.__name__].pop("required", []) for name, model in models.items()}
    fields = {
        name: _open(schema, inside=True) for name, schema in _default_fields(definitions, models).items()
    }
    for definition in definitions.values():
        definition["properties"] = {
            name: _open(schema, inside=True) for name, schema in definition["properties"].items()
        }
    for name, model in models.items():
        properties = definitions[model.__name__]["properties"]
        described = {field: _with_impact(schema) for field, schema in properties.items()}
        definitions[model.__name__]["properties"] = {"kind": {"const": name}, **described}
    definitions[InputModel.__name__] = source
    for name in definitions.keys() - {model.__name__ for model in models.values()}:
        definitions[name].pop("description", None)  # for editors it would hide that of the field
    definitions[_FILLED] = {"type": "string", "pattern": "\\$\\{"}
    definitions["Stage"] = _stage({name: model.__name__ for name, model in models.items()})
    top["properties"] = _top_properties(top["properties"], fields)
    return _Parts(top, dict(sorted(definitions.items())), fields, required)


def _top_properties(properties: Mapping[str, Any], fields: dict[str, Any]) -> dict[str, Any]:
    scalar = {"type": ["number", "string", "boolean", "null"]}
    choices = {
        "type": "array",
        "items": {"type": "object", "minProperties": 1, "additionalProperties": scalar},
    }
    details = {
        "stages": {
            "propertyNames": {"pattern": STAGE_NAME},
            "additionalProperties": _open({"$ref": "#/$defs/Stage"}),
        },
        "defaults": {"properties": fields},
        "matrix": {
            "properties": {EXCLUDE: {"description": "choices that make no variant", **choices}},
            "additionalProperties": _open({"type": ["array", "null"], "items": scalar, "minItems": 1}),
        },
    }
    whole = {name: {**schema, **details.get(name, {})} for name, schema in properties.items()}
    return {name: schema if name in _TAKEN_AS_WRITTEN else _open(schema) for name, schema in whole.items()}


def _open(schema: dict[str, Any], *, inside: bool = False) -> dict[str, Any]:
    """A value of this form, or a text with ``${…}`` in it.

    Args:
        schema: the form.
        inside: whether this holds for what is in the value as well.
    """
    notes = {name: schema[name] for name in _NOTES if name in schema}
    form = {name: item for name, item in schema.items() if name not in _NOTES}
    if inside:
        for name in ("items", "additionalProperties"):
            if isinstance(form.get(name), dict):
                form[name] = _open(form[name], inside=True)
        if "anyOf" in form:
            form["anyOf"] = [_open(each, inside=True) for each in form["anyOf"]]
    if form.get("type") == "string" and not form.keys() & {"enum", "const", "pattern"}:
        return {**notes, **form}
    if "enum" in form or form.get("type") == "boolean":
        # Not below `if`, where editors do not look for values to offer.
        return {**notes, "anyOf": [form, {"$ref": f"#/$defs/{_FILLED}"}]}
    return {**notes, "if": {"$ref": f"#/$defs/{_FILLED}"}, "else": form}


def _tidy(value: Any) -> Any:
    """Our name for impacts, prose without reStructuredText, and no generated titles."""
    if isinstance(value, list):
        return [_tidy(item) for item in value]
    if not isinstance(value, dict):
        return value
    tidied = {name: _tidy(item) for name, item in value.items() if name != "title" or isinstance(item, dict)}
    if isinstance(tidied.get("impact"), str):
        tidied["x-impact"] = tidied.pop("impact")
    if isinstance(tidied.get("description"), str):
        tidied["description"] = prose(tidied["description"])
    return tidied


def prose(text: str) -> str:
    """A docstring as one line of plain text."""
    return re.sub(r"\s+", " ", text.replace("``", "`"))


def _with_impact(schema: dict[str, Any]) -> dict[str, Any]:
    return schema if "x-impact" in schema else {**schema, "x-impact": "semantic"}


def _input(properties: dict[str, Any]) -> dict[str, Any]:
    """A reference as text, or a mapping of one origin and what goes with it."""
    described = {
        name: {"type": "string", "description": schema["description"]} for name, schema in properties.items()
    }

    def origin(*names: str) -> dict[str, Any]:
        only = {"properties": dict.fromkeys(names, True), "additionalProperties": False}
        return {"if": {"required": [names[0]]}, "then": only}

    named = {"anyOf": [{"required": [name]} for name in ("path", "hub", "ref")]}
    return {
        "type": ["string", "object"],
        "pattern": REFERENCE.pattern,
        "properties": described,
        "additionalProperties": False,
        "allOf": [
            {"if": {"type": "object"}, "then": named},
            origin("path", "file"),
            origin("hub", "revision", "file"),
            origin("ref", "file"),
        ],
    }


def _default_fields(definitions: dict[str, Any], models: Mapping[str, type[SpecModel]]) -> dict[str, Any]:
    """Every field of every kind; where kinds differ, either form will do."""
    forms: dict[str, list[dict[str, Any]]] = {}
    told: dict[str, list[str]] = {}
    for model in models.values():
        for field, schema in definitions[model.__name__]["properties"].items():
            # A default of the kind's is none of the `defaults:` block, and descriptions are joined.
            skipped = ("default", "x-impact", "description")
            form = {name: item for name, item in schema.items() if name not in skipped}
            if form not in forms.setdefault(field, []):
                forms[field].append(form)
            if schema.get("description", "") not in ["", *told.setdefault(field, [])]:
                told[field].append(schema["description"])
    return {field: _joined(found, told[field]) for field, found in forms.items()}


def _joined(forms: list[dict[str, Any]], descriptions: list[str]) -> dict[str, Any]:
    schema = forms[0] if len(forms) == 1 else {"anyOf": forms}
    return {"description": "; or ".join(descriptions), **schema} if descriptions else schema


def _stage(models: Mapping[str, str]) -> dict[str, Any]:
    return {
        "type": ["object", "null"],
        "properties": {"kind": {"type": "string", "description": "stage kind"}},
        "allOf": [_when_kind(name, {"$ref": f"#/$defs/{model}"}) for name, model in models.items()],
    }


def _when_kind(name: str, schema: dict[str, Any]) -> dict[str, Any]:
    named = {"type": "object", "properties": {"kind": {"const": name}}, "required": ["kind"]}
    return {"if": named, "then": schema}


def _closed(kinds: list[str], fields: list[str]) -> dict[str, Any]:
    """Without kinds of the spec's own, only these kinds and these defaults exist."""
    return {
        "if": {"not": {"required": ["kinds"]}},
        "then": {
            "properties": {
                "stages": {"additionalProperties": {"properties": {"kind": _open({"enum": kinds})}}},
                "defaults": {"properties": dict.fromkeys(fields, True), "additionalProperties": False},
            }
        },
    }


def _complete(required: Mapping[str, list[str]]) -> dict[str, Any]:
    """Without defaults, each stage must give its required fields itself."""
    demands = [_when_kind(name, {"required": fields}) for name, fields in required.items() if fields]
    return {
        "if": {"not": {"required": ["defaults"]}},
        "then": {"properties": {"stages": {"additionalProperties": {"allOf": demands}}}},
    }
