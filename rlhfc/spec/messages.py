"""Pydantic's errors in our own voice, each at its place in the YAML."""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from types import UnionType
from typing import Annotated, Any, Literal, Union, get_args, get_origin

from pydantic import BaseModel, ValidationError
from pydantic_core import ErrorDetails

from rlhfc.compile.action import VARIANT
from rlhfc.errors import Diagnostic, did_you_mean, nearest
from rlhfc.kind import InputModel
from rlhfc.spec.nodes import Node, Path
from rlhfc.spec.scalars import plain_scalar

_A_SOURCE = "a reference `stage.port`, or a mapping with `path:` or `hub:`"
_EXPECTED = {
    **dict.fromkeys(("float_type", "float_parsing", "finite_number"), "a number"),
    **dict.fromkeys(("int_type", "int_parsing", "int_from_float", "int_parsing_size"), "a whole number"),
    **dict.fromkeys(("bool_type", "bool_parsing"), "`true` or `false`"),
    **dict.fromkeys(("string_type",), "text"),
    **dict.fromkeys(("list_type", "tuple_type", "set_type"), "a list"),
    **dict.fromkeys(("dict_type", "model_type", "model_attributes_type"), "a mapping"),
}
_BOUNDS = {
    "greater_than": "must be above {gt}",
    "greater_than_equal": "must be at least {ge}",
    "less_than": "must be below {lt}",
    "less_than_equal": "must be at most {le}",
    "string_too_short": "needs at least {min_length} characters",
    "string_too_long": "takes at most {max_length} characters",
    "string_pattern_mismatch": "must match the pattern `{pattern}`",
    "multiple_of": "must be a multiple of {multiple_of}",
}
_SAID_OTHERWISE = {
    "`true` or `false`": {
        **dict.fromkeys(("on", "yes", "y"), "true"),
        **dict.fromkeys(("off", "no", "n"), "false"),
    }
}


@dataclass(frozen=True)
class Subject:
    """What was validated: a model, the values it was given, and how messages call it.

    Attributes:
        model: the model's class.
        node: the values with their places.
        name: what messages put before a path, "" for the top level.
        kind: how hints call the set of fields, for example ``kind `sft```.
        ports: names of the outputs of each stage, for hints on malformed references.
    """

    model: type[BaseModel]
    node: Node
    name: str
    kind: str
    ports: Mapping[str, Sequence[str]] = field(default_factory=dict)
    defaulted: frozenset[str] = frozenset()

    def address(self, path: Path) -> str:
        """How a message calls the value at ``path``."""
        owner = "defaults" if path and path[0] in self.defaulted else self.name
        return ".".join(part for part in (owner, *map(str, path)) if part)


def explain(error: ValidationError, subject: Subject) -> list[Diagnostic]:
    """One diagnostic for each mistake, in the order of the fields.

    The branches of a union that failed together become one; where a branch failed deeper, the
    value was meant for that branch and only the deeper message stays.
    """
    grouped: dict[Path, list[ErrorDetails]] = {}
    for details in error.errors(include_url=False):
        grouped.setdefault(_data_path(details, subject.node), []).append(details)
    deepest = [
        (path, found)
        for path, found in grouped.items()
        if not any(other[: len(path)] == path and len(other) > len(path) for other in grouped)
        or not all(_is_shape(details) for details in found)
    ]
    return [_diagnostic(path, found, subject) for path, found in deepest]


def _is_shape(details: ErrorDetails) -> bool:
    return details["type"] in _EXPECTED or details["type"] == "literal_error"


def _data_path(details: ErrorDetails, node: Node) -> Path:
    """The error's location in the data: union branches, which pydantic puts in between, left out."""
    path: list[str | int] = []
    location = details["loc"]
    for index, step in enumerate(location):
        below = node.child(step)
        if below is not None:
            path.append(step)
            node = below
        elif details["type"] == "missing" and index == len(location) - 1:
            path.append(step)
    return tuple(path)


def _diagnostic(path: Path, found: Sequence[ErrorDetails], subject: Subject) -> Diagnostic:
    details = found[0]
    if details["type"] == "extra_forbidden":
        return _unknown(path, subject)
    if details["type"] == "missing":
        return _missing(path, subject)
    if details["type"] == "value_error":
        return _refused(path, details, subject)
    node = subject.node.descend(path)[0]
    mark, called = node.place(), subject.address(path)
    if all(_is_shape(each) for each in found):
        expected, hint = _shape(path, found, subject, node)
        return Diagnostic(f"{called}: expected {expected}, got {shown(node)}", mark, hint)
    hint = _key_hint(node) if details["type"] == "string_pattern_mismatch" else None
    return Diagnostic(f"{called}: {_bound(details, node)}", mark, hint)


def _key_hint(node: Node) -> str | None:
    return f"write `b3:{node.text}`" if re.fullmatch(r"[0-9a-f]{8,64}", node.text) else None


def _bound(details: ErrorDetails, node: Node) -> str:
    """What a bound asks, and what there is."""
    kind, context = details["type"], details.get("ctx", {})
    if kind in ("too_short", "too_long"):
        word, number = ("least", "min_length") if kind == "too_short" else ("most", "max_length")
        plural = "" if context[number] == 1 else "s"
        return f"takes at {word} {context[number]} item{plural}, got {context['actual_length'] or 'none'}"
    template = _BOUNDS.get(kind)
    if template is None:
        return f"{details['msg'][0].lower()}{details['msg'][1:]}, got {shown(node)}"
    if kind == "string_too_short" and context["min_length"] == 1:
        return "must not be empty"
    numbers = {name: int(n) if isinstance(n, float) and n.is_integer() else n for name, n in context.items()}
    return f"{template.format(**numbers)}, got {shown(node)}"


def _unknown(path: Path, subject: Subject) -> Diagnostic:
    name, parent = str(path[-1]), path[:-1]
    known = _field_names(subject, parent)
    what = f"fields of {subject.kind}" if not parent else f"fields of `{subject.address(parent)}`"
    node = subject.node.descend(path)[0]
    message = (
        f"{subject.address(parent)}: unknown field `{name}`"
        if subject.address(parent)
        else f"unknown field `{name}`"
    )
    return Diagnostic(message, node.key or node.mark, did_you_mean(name, known, what))


def _missing(path: Path, subject: Subject) -> Diagnostic:
    name, parent = str(path[-1]), path[:-1]
    called = subject.address(parent)
    hint = None
    for model in models_at(subject.model, parent):
        for key, info in model.model_fields.items():
            if name in (key, info.alias) and info.description:
                only = get_args(info.annotation) if get_origin(info.annotation) is Literal else ()
                hint = f"write `{name}: {only[0]}`" if len(only) == 1 else f"`{name}`: {info.description}"
    message = f"{called}: missing field `{name}`" if called else f"missing field `{name}`"
    return Diagnostic(message, subject.node.descend(parent)[0].place(), hint)


def _refused(path: Path, details: ErrorDetails, subject: Subject) -> Diagnostic:
    """What a model's own validator refused, at the field that its message begins with if any."""
    message = str(details["ctx"]["error"]) if "ctx" in details else details["msg"]
    node = subject.node.descend(path)[0]
    hint = None
    if InputModel in models_at(subject.model, path) and node.mapping is None:
        hint = _reference_hint(str(node.data), subject.ports)
    first = re.match(r"`?([a-z][a-z0-9_]*)`?\b", message)
    named = node.child(first[1]) if first else None
    return Diagnostic(f"{subject.address(path)}: {message}", (named or node).place(), hint)


def _reference_hint(text: str, ports: Mapping[str, Sequence[str]]) -> str | None:
    if VARIANT in text:
        return f'quote the whole name: `"ppo{VARIANT}kl=0.02,lr=1e-06.actor"`'
    if text in ports:
        return "write " + " or ".join(f"`{text}.{port}`" for port in ports[text])
    if re.match(r"(\.{0,2}|~)/", text) or re.search(r"\.(jsonl?|parquet|gguf|py)$", text):
        return f"for a local file or folder write `{{path: {text}}}`"
    if re.fullmatch(r"[\w.-]+/[\w.-]+", text):
        return f"for the hub write `{{hub: {text}}}`"
    close = nearest(text, ports)
    return (
        f"did you mean stage `{close}`?" if close else f"for a local file or folder write `{{path: {text}}}`"
    )


def _shape(path: Path, found: Sequence[ErrorDetails], subject: Subject, node: Node) -> tuple[str, str | None]:
    """What was expected, every branch of a union named, and a hint."""
    if InputModel in models_at(subject.model, path):
        return _A_SOURCE, None
    wanted: list[str] = []
    hint = None
    for details in found:
        if details["type"] == "literal_error":
            values = _literals(subject, path) or [details["ctx"]["expected"]]
            wanted.append(
                ("one of " if len(values) > 1 else "") + ", ".join(f"`{value}`" for value in values)
            )
            if isinstance(node.data, str):
                close = did_you_mean(node.data, [str(value) for value in values], "", limit=0)
                hint = hint or close
        else:
            wanted.append(_EXPECTED[details["type"]])
    if hint is None and "a list" in wanted and isinstance(node.data, str) and node.data:
        texts = any(get_args(each) == (str,) for each in _types_at(subject.model, path))
        hint = f"write `[{node.text}]`" if texts else None
    for each in wanted:
        hint = hint or _remedy(each, node)
    return " or ".join(dict.fromkeys(wanted)), hint


def _remedy(expected: str, node: Node) -> str | None:
    """A hint for the traps of YAML: quotes, octal, grouped digits, ``on``, ``1e3``."""
    text = node.text
    if node.joined:
        return None if expected == "text" else "`${…}` beside other characters gives text: let it stand alone"
    other = _SAID_OTHERWISE.get(expected, {}).get(text.lower())
    if other is not None:
        return f"write `{other}`"
    if expected not in ("a number", "a whole number", "`true` or `false`", "text"):
        return None
    if expected == "text":
        return f'write `"{text}"`' if text and not isinstance(node.data, str) else None
    meant = plain_scalar(re.sub(r"^([-+]?)0+(?=\d)", r"\1", text.replace("_", "").replace(",", "")))
    if expected == "a whole number" and isinstance(meant, float) and meant.is_integer():
        meant = int(meant)
    fits = {"a number": (int, float), "a whole number": (int,), "`true` or `false`": (bool,)}[expected]
    if not isinstance(meant, fits) or (isinstance(meant, bool) and expected != "`true` or `false`"):
        return None
    quoted = (
        isinstance(node.data, str) and plain_scalar(text) == meant and not isinstance(plain_scalar(text), str)
    )
    return "remove the quotes" if quoted else f"write `{str(meant).lower()}`"


def shown(node: Node) -> str:
    """A value as a message quotes it: a scalar as written, cut to 40 characters."""
    if node.mapping is not None:
        return "a mapping"
    if node.items is not None:
        return "a list"
    if node.data is None and not node.text:
        return "nothing"
    if node.data == "":
        return "empty text"
    first, *more = node.text.splitlines() or [""]
    cut = first[:40] + ("…" if more or len(first) > 40 else "")
    quoted = isinstance(node.data, str) and not isinstance(plain_scalar(node.text), str)
    return f"the text `{cut}`" if quoted else f"`{cut}`"


def _field_names(subject: Subject, path: Path) -> list[str]:
    return [
        info.alias or name
        for model in models_at(subject.model, path)
        for name, info in model.model_fields.items()
    ]


def models_at(model: type[BaseModel], path: Path) -> list[type[BaseModel]]:
    """Models that the value at ``path`` may be an instance of."""
    return [each for each in _types_at(model, path) if isinstance(each, type) and issubclass(each, BaseModel)]


def _literals(subject: Subject, path: Path) -> list[Any]:
    return [
        value
        for each in _types_at(subject.model, path)
        if get_origin(each) is Literal
        for value in get_args(each)
    ]


def _types_at(annotation: Any, path: Path) -> Iterator[Any]:
    """Annotations of the value at ``path``, unions and ``Annotated`` taken apart."""
    origin, arguments = get_origin(annotation), get_args(annotation)
    if origin is Annotated:
        yield from _types_at(arguments[0], path)
    elif origin in (Union, UnionType):
        for argument in arguments:
            yield from _types_at(argument, path)
    elif not path:
        yield annotation
    elif isinstance(annotation, type) and issubclass(annotation, BaseModel):
        for name, info in annotation.model_fields.items():
            if path[0] in (name, info.alias):
                yield from _types_at(info.annotation, path[1:])
    elif origin is list:
        yield from _types_at(arguments[0], path[1:])
    elif origin is dict:
        yield from _types_at(arguments[1], path[1:])
