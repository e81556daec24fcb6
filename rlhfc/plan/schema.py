"""The JSON Schema of a plan's document, from the types of :mod:`rlhfc.plan.document`.

Not by pydantic, which before Python 3.12 wants other TypedDicts than those of the standard library.
"""

from __future__ import annotations

import inspect
import json
from collections.abc import Iterator
from types import UnionType
from typing import Any, Literal, NotRequired, get_args, get_origin, get_type_hints, is_typeddict

from rlhfc.compile.reasons import ReasonCode
from rlhfc.plan.document import FORMAT_VERSION, PlanDocument
from rlhfc.plan.planner import Verdict
from rlhfc.spec.schema import DIALECT, prose

FILE_NAME = "plan.schema.json"
_SCALARS = {str: "string", int: "integer", float: "number", bool: "boolean", type(None): "null"}


def plan_schema() -> dict[str, Any]:
    """Schema of what ``rlhfc plan --json`` prints; verdicts and codes of reasons are closed sets.

    Other fields than these are allowed: within format 1 fields are only ever added.
    """
    definitions = {kind.__name__: _object(kind) for kind in _types(PlanDocument)}
    definitions["ReasonDocument"]["properties"]["code"]["enum"] = [str(code) for code in ReasonCode]
    top = definitions.pop(PlanDocument.__name__)
    top["properties"]["format_version"]["pattern"] = rf"^{FORMAT_VERSION.partition('.')[0]}\."
    top["properties"]["summary"]["required"] = [str(verdict) for verdict in Verdict]
    return {"$schema": DIALECT, "title": "rlhfc plan", **top, "$defs": dict(sorted(definitions.items()))}


def plan_schema_text() -> str:
    """The schema as it is written to a file."""
    return json.dumps(plan_schema(), indent=2, ensure_ascii=False) + "\n"


def _types(kind: Any) -> Iterator[Any]:
    """A type and all that its fields name."""
    if is_typeddict(kind):
        yield kind
    inner = get_type_hints(kind).values() if is_typeddict(kind) else get_args(kind)
    for hint in inner:
        yield from _types(hint)


def _object(kind: Any) -> dict[str, Any]:
    hints = get_type_hints(kind, include_extras=True)
    return {
        "description": prose(inspect.getdoc(kind) or ""),
        "type": "object",
        "properties": {name: _schema(hint) for name, hint in hints.items()},
        "required": [name for name, hint in hints.items() if get_origin(hint) is not NotRequired],
    }


def _schema(hint: Any) -> dict[str, Any]:
    origin, arguments = get_origin(hint), get_args(hint)
    if origin is NotRequired:
        return _schema(arguments[0])
    if origin is UnionType:
        return {"anyOf": [_schema(argument) for argument in arguments]}
    if origin is Literal:
        return {"type": "string", "enum": list(arguments)}
    if origin is list:
        return {"type": "array", "items": _schema(arguments[0])}
    if origin is dict:
        return {"type": "object", "additionalProperties": _schema(arguments[1])}
    if is_typeddict(hint):
        return {"$ref": f"#/$defs/{hint.__name__}"}
    return {} if hint is Any else {"type": _SCALARS[hint]}
