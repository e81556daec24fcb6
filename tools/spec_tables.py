"""Keeps the reference tables of ``docs/spec.md`` as the stage kinds' models say.

``python tools/spec_tables.py`` writes them between the two markers; ``--check`` only compares and exits
with 1 when they are stale.
"""

from __future__ import annotations

import argparse
import sys
from collections.abc import Iterator
from pathlib import Path
from types import NoneType, UnionType
from typing import Any, Literal, Union, get_args, get_origin

from pydantic.fields import FieldInfo

from rlhfc.compile.impacts import impact_of
from rlhfc.compile.kinds import load_kinds
from rlhfc.kind import (
    EngineParams,
    FrozenEngineParams,
    InputModel,
    Kind,
    LoraParams,
    SpecModel,
    StageParams,
    TrainParams,
)
from rlhfc.spec.model import SpecFile

PAGE = Path(__file__).parents[1] / "docs" / "spec.md"
BEGIN = "<!-- tables: written by tools/spec_tables.py -->"
END = "<!-- end of tables -->"
ORDER = ("data_split", "sft", "reward", "engine_init", "ppo", "reference", "dpo", "evaluate", "export")
SHARED = {
    StageParams: ("Fields of every stage", "[every stage](#fields-of-every-stage)"),
    TrainParams: ("Fields of training", "[training](#fields-of-training)"),
    EngineParams: ("Fields of an engine", "[engine](#fields-of-an-engine)"),
    FrozenEngineParams: ("Fields of a frozen engine", "[frozen engine](#fields-of-a-frozen-engine)"),
    LoraParams: ("Fields of LoRA", "[LoRA](#fields-of-lora)"),
}
WORDS = {int: "whole number", float: "number", str: "text", bool: "`true` or `false`", dict: "mapping"}
BOUNDS = {
    "min_length": "at least",
    "max_length": "at most",
    "ge": "≥",
    "gt": ">",
    "le": "≤",
    "lt": "<",
    "pattern": "that matches",
}
HEAD = ("| field | type | default | impact | meaning |", "|---|---|---|---|---|")


def tables() -> str:
    """Every table, in the order of a pipeline; the shared models first."""
    kinds = load_kinds([])
    assert set(ORDER) == set(kinds), "ORDER names every kind once"
    lines = ["## Top level", "", "| field | type | default | meaning |", "|---|---|---|---|"]
    for name, info in SpecFile.model_fields.items():
        shown = info.alias or name
        lines.append(f"| `{shown}` | {_type(info)} | {_default(info)} | {info.description} |")
    for model, (title, _) in SHARED.items():
        lines += ["", f"## {title}", "", *HEAD, *_rows(model, "", _own(model), None)]
    for name in ORDER:
        lines += ["", *_kind_lines(kinds[name].kind)]
    return "\n".join(lines)


def refreshed(page: str) -> str:
    """The page with the tables as they should be.

    Raises:
        ValueError: a marker is missing.
    """
    before, begin, rest = page.partition(BEGIN)
    _, end, after = rest.partition(END)
    if not begin or not end:
        raise ValueError(f"the page lacks `{BEGIN}` or `{END}`")
    return f"{before}{BEGIN}\n\n{tables()}\n\n{END}{after}"


def _kind_lines(kind: Kind) -> Iterator[str]:
    yield f"## Kind `{kind.name}`"
    yield ""
    bases = [link for model, (_, link) in SHARED.items() if issubclass(kind.params, model)]
    yield f"Has the fields of {' and of '.join(bases)} besides:"
    yield ""
    yield from HEAD
    yield from _rows(kind.params, "", _own(kind.params), kind)
    yield ""
    ports = ", ".join(f"`{port}` ({made})" for port, made in kind.outputs.items())
    yield f"Outputs: {ports}."
    yield f"Libraries in its key: {', '.join(kind.libraries)}."
    yield "It resumes at checkpoints." if kind.resumable else "It writes no checkpoints."


def _own(model: type[SpecModel]) -> list[str]:
    """Fields that have no row in the table of a model that it builds on, or that it declares anew."""
    declared = vars(model).get("__annotations__", {})
    bases = (base for base in SHARED if base is not model and issubclass(model, base))
    told = {name for base in bases for name in base.model_fields}
    return [name for name in model.model_fields if name in declared or name not in told]


def _rows(model: type[SpecModel], prefix: str, names: list[str], kind: Kind | None) -> Iterator[str]:
    """One row a field; a model that only this kind has is told right below, with dotted names."""
    for name in names:
        info = model.model_fields[name]
        path = f"{prefix}{name}"
        assert info.description, f"`{path}` of {model.__name__} has no description"
        below = _local_model(info.annotation)
        cells = (f"`{path}`", _type(info, kind, path), _default(info), _impact(info), info.description)
        yield f"| {' | '.join(cell.replace('|', chr(92) + '|') for cell in cells)} |"
        if below is not None:
            inner = f"{path}.*." if get_origin(info.annotation) is list else f"{path}."
            yield from _rows(below, inner, list(below.model_fields), kind)


def _local_model(annotation: Any) -> type[SpecModel] | None:
    """The nested model of a field, unless it is shared and has a table of its own."""
    for each in (annotation, *get_args(annotation)):
        if isinstance(each, type) and issubclass(each, SpecModel):
            shared = issubclass(each, (InputModel, *SHARED))
            return None if shared else each
    return None


def _impact(info: FieldInfo) -> str:
    """What was declared; a nested model's own fields say more, so a mapping of them says nothing."""
    models = [each for each in (info.annotation, *get_args(info.annotation)) if _is_mapping(each)]
    return "of its fields" if models else impact_of(info)


def _is_mapping(annotation: Any) -> bool:
    return (
        isinstance(annotation, type)
        and issubclass(annotation, SpecModel)
        and not issubclass(annotation, InputModel)
    )


def _type(info: FieldInfo, kind: Kind | None = None, path: str = "") -> str:
    """The type in words, with its bounds."""
    return _words(info.annotation, kind, path) + "".join(_bounds(info))


def _words(annotation: Any, kind: Kind | None, path: str) -> str:
    origin, arguments = get_origin(annotation), get_args(annotation)
    if origin is Literal:
        return " ".join(f"`{value}`" for value in arguments)
    if origin in (Union, UnionType):
        return " or ".join(_words(each, kind, path) for each in arguments if each is not NoneType)
    if origin is list:
        return f"list of {_words(arguments[0], kind, path)}"
    if origin is dict:
        return "mapping"
    if hasattr(annotation, "__metadata__"):  # `Input` inside a union
        return _words(annotation.__origin__, kind, path)
    if issubclass(annotation, InputModel):
        return f"input: {kind.inputs[path]}" if kind else "input"
    for model, (_, link) in SHARED.items():
        if issubclass(annotation, model):
            return link
    return "mapping" if issubclass(annotation, SpecModel) else WORDS[annotation]


def _bounds(info: FieldInfo) -> Iterator[str]:
    """What the value must keep to; each part begins as it is joined to the words before it."""
    given = {name: getattr(found, name) for found in info.metadata for name in BOUNDS if hasattr(found, name)}
    shortest = given.pop("min_length", None)
    if shortest is not None:
        yield (
            f", exactly {shortest}" if shortest == given.pop("max_length", None) else f", at least {shortest}"
        )
    for place, (name, bound) in enumerate(given.items()):
        yield f"{', ' if place else ' '}{BOUNDS[name]} {f'`{bound}`' if name == 'pattern' else bound}"


def _default(info: FieldInfo) -> str:
    if info.is_required():
        return "required"
    value = info.get_default(call_default_factory=True)
    if isinstance(value, SpecModel):
        return "its defaults"
    if value is None or value in ("", [], {}):
        return "none"
    if isinstance(value, bool):
        return f"`{str(value).lower()}`"
    return f"`{value}`"


def main(arguments: list[str] | None = None) -> int:
    """Write or compare; returns the exit status."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--check", action="store_true", help="write nothing; 1 when the page is stale")
    check = parser.parse_args(arguments).check
    page = PAGE.read_text(encoding="utf-8")
    wanted = refreshed(page)
    if check and page != wanted:
        print(f"error: the tables of `{PAGE.name}` are not what the stage kinds say", file=sys.stderr)
        print("hint: `make schema` writes them again", file=sys.stderr)
        return 1
    if not check:
        PAGE.write_text(wanted, encoding="utf-8")
    return 0


if __name__ == "__main__":
    sys.exit(main())
