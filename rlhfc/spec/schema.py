"""The JSON Schema of a spec, for editors: completion, hover texts, errors while typing."""

from __future__ import annotations

import json
import re
from collections.abc import Mapping
from typing import Any

from pydantic.json_schema import models_json_schema

from rlhfc.compile.action import LoadedKind
from rlhfc.kind import REFERENCE, InputModel, SpecModel
from rlhfc.spec.model import STAGE_NAME, SpecFile

FILE_NAME = "pipeline.schema.json"
DIALECT = "https://json-schema.org/draft/2020-12/schema"


def pipeline_schema(kinds: Mapping[str, LoadedKind]) -> dict[str, Any]:
    """Schema of a whole spec over these kinds; each setting has its ``x-impact``.

    A spec that names ``kinds:`` of its own may use kinds and defaults that the schema does not
    know. One with ``defaults:`` may leave required fields out of its stages.
    """
    models: dict[str, type[SpecModel]] = {name: loaded.kind.params for name, loaded in kinds.items()}
    every: list[type[SpecModel]] = [SpecFile, *models.values()]
    generated = models_json_schema([(model, "validation") for model in every])[1]
    definitions: dict[str, Any] = _tidy(generated["$defs"])
    top = definitions.pop(SpecFile.__name__)
    definitions[InputModel.__name__] = _input(definitions[InputModel.__name__]["properties"])
    required = {name: definitions[model.__name__].pop("required", []) for name, model in models.items()}
    fields = _default_fields(definitions, models)
    for name, model in models.items():
        definitions[model.__name__]["properties"] = {
            "kind": {"const": name},
            **{
                field: _with_impact(schema)
                for field, schema in definitions[model.__name__]["properties"].items()
            },
        }
    properties = top["properties"]
    properties["stages"] = {
        **properties["stages"],
        "propertyNames": {"pattern": STAGE_NAME},
        "additionalProperties": {"$ref": "#/$defs/Stage"},
    }
    properties["defaults"]["properties"] = fields
    definitions["Stage"] = _stage({name: model.__name__ for name, model in models.items()})
    return {
        "$schema": DIALECT,
        "title": "rlhfc pipeline",
        **top,
        "allOf": [_closed(list(models), list(fields)), _complete(required)],
        "$defs": dict(sorted(definitions.items())),
    }


def schema_text(kinds: Mapping[str, LoadedKind]) -> str:
    """The schema as it is written to a file."""
    return json.dumps(pipeline_schema(kinds), indent=2, ensure_ascii=False) + "\n"


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
        return {
            "type": "object",
            "properties": {name: described[name] for name in names},
            "required": [names[0]],
            "additionalProperties": False,
        }

    reference = {
        "type": "string",
        "pattern": REFERENCE.pattern,
        "description": described["ref"]["description"],
    }
    return {
        "description": "a reference `stage.port`, or a source: `path:` or `hub:`",
        "anyOf": [
            reference,
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
        "type": "object",
        "required": ["kind"],
        "properties": {"kind": {"type": "string", "description": "stage kind"}},
        "allOf": [_when_kind(name, {"$ref": f"#/$defs/{model}"}) for name, model in models.items()],
    }


def _when_kind(name: str, schema: dict[str, Any]) -> dict[str, Any]:
    return {"if": {"properties": {"kind": {"const": name}}, "required": ["kind"]}, "then": schema}


def _closed(kinds: list[str], fields: list[str]) -> dict[str, Any]:
    """Without kinds of the spec's own, only these kinds and these defaults exist."""
    return {
        "if": {"not": {"required": ["kinds"]}},
        "then": {
            "properties": {
                "stages": {"additionalProperties": {"properties": {"kind": {"enum": kinds}}}},
                "defaults": {"propertyNames": {"enum": fields}},
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
