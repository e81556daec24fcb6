"""The resolved spec: every value of every stage, with its origin, as YAML that can be run again."""

from __future__ import annotations

import json
import os
import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from rlhfc.compile.impacts import Leaf, dotted, full, leaves, render_params
from rlhfc.explain import FORMAT_VERSION
from rlhfc.kind import InputModel
from rlhfc.spec.model import STAGE_NAME, PipelineSpec, StageSpec
from rlhfc.spec.origins import origins_of
from rlhfc.spec.scalars import plain_scalar

DEFAULT = "default"
WIDEST = 60  # a longer line does not push the comments of the others to the right
BARE = re.compile(r"[A-Za-z_./~][\w./~@+-]*")
TRAPS = frozenset({"on", "off", "yes", "no", "y", "n"})  # text to us, booleans to readers of YAML 1.1
ITEM = "- "
PLACEHOLDER = re.compile(r"\$\{(?!env:)")  # text that would be taken for a variable


@dataclass(frozen=True)
class Line:
    """One line of YAML and where its value comes from."""

    text: str
    origin: str | None = None


def resolved_lines(spec: PipelineSpec, stages: Mapping[str, StageSpec], *, explicit: bool) -> list[str]:
    """The spec as YAML, with the origin of each value as a comment.

    Args:
        spec: a valid spec.
        stages: those of its stages that are wanted.
        explicit: leave out values that are their field's default.
    """
    lines, names = list(_head(spec)), _plain_names(spec)
    for stage in stages.values():
        lines += [Line(f"  {yaml_text(names[stage.name])}:"), Line(f"    kind: {stage.loaded.kind.name}")]
        origins = origins_of(stage, spec.path.parent)
        lines += _fields(render_params(stage.params, _Written(origins, names, explicit)), "    ")
    return _aligned(lines)


def _plain_names(spec: PipelineSpec) -> dict[str, str]:
    """Stages by the names that they can have in a spec: variants stand alone there, without a matrix."""
    names: dict[str, str] = {}
    for name in spec.stages:
        plain_name = name if re.match(STAGE_NAME, name) else re.sub(r"[^A-Za-z0-9_]+", "-", name)
        while plain_name in names.values():
            plain_name += "-"
        names[name] = plain_name
    return names


def resolved_document(
    spec: PipelineSpec, stages: Mapping[str, StageSpec], *, explicit: bool
) -> dict[str, Any]:
    """The same as plain values, with the impact of each."""
    return {
        "format_version": FORMAT_VERSION,
        "pipeline": spec.name,
        "spec": str(spec.path),
        "stages": [
            {
                "stage": stage.name,
                "kind": stage.loaded.kind.name,
                "values": list(_values(stage, spec, explicit)),
            }
            for stage in stages.values()
        ],
    }


def _values(stage: StageSpec, spec: PipelineSpec, explicit: bool) -> Iterator[dict[str, Any]]:
    origins = origins_of(stage, spec.path.parent)
    for leaf in leaves(stage.params):
        origin = origins.get(leaf.address)
        if origin is not None or not explicit:
            yield {"path": leaf.address, "value": plain(leaf), "origin": origin, "impact": leaf.impact}


def plain(leaf: Leaf) -> Any:
    """A leaf as it could be written in a spec; an input is its reference or source again."""
    if not isinstance(leaf.value, InputModel):
        return full(leaf)
    given = {name: value for name, value in leaf.value if value is not None}
    return given["ref"] if given.keys() == {"ref"} else given


def yaml_text(value: Any) -> str:
    """A value in one line of YAML, which our parser reads back as it was."""
    if isinstance(value, Mapping):
        return f"{{{', '.join(f'{yaml_text(str(key))}: {yaml_text(item)}' for key, item in value.items())}}}"
    if isinstance(value, list | tuple):
        return f"[{', '.join(map(yaml_text, value))}]"
    if isinstance(value, str):
        text = PLACEHOLDER.sub("$${", value)
        if BARE.fullmatch(text) and plain_scalar(text) == text and text.lower() not in TRAPS:
            return text
        quoted = json.dumps(text, ensure_ascii=False)
        return "".join(char if char.isprintable() else _escape(char) for char in quoted)
    return json.dumps(value)


def _escape(char: str) -> str:
    code = ord(char)
    return f"\\u{code:04x}" if code < 0x10000 else f"\\U{code:08x}"


class _Written:
    """Turns a leaf into its line's value and origin, or into nothing."""

    def __init__(self, origins: Mapping[str, str], names: Mapping[str, str], explicit: bool) -> None:
        self._origins, self._names, self._explicit = origins, names, explicit

    def __call__(self, leaf: Leaf) -> Line | None:
        origin = self._origins.get(dotted(leaf.path))
        if origin is None and self._explicit:
            return None
        value: Any = plain(leaf)
        if isinstance(leaf.value, InputModel) and leaf.value.ref is not None:
            stage, _, port = leaf.value.ref.rpartition(".")
            value = f"{self._names[stage]}.{port}"
        return Line(yaml_text(value), origin or DEFAULT)


def _head(spec: PipelineSpec) -> Iterator[Line]:
    yield Line("schema: 1")
    yield Line(f"name: {yaml_text(spec.name)}")
    if spec.description:
        yield Line(f"description: {yaml_text(spec.description)}")
    folders = (stage.loaded.python_path for stage in spec.stages.values())
    kinds = list(dict.fromkeys(_relative(folder, spec) for folder in folders if folder is not None))
    if kinds:
        yield Line(f"kinds: {yaml_text(kinds)}")
    if spec.libraries.strict or spec.libraries.named:
        yield Line(f"libraries: {'strict' if spec.libraries.strict else yaml_text(spec.libraries.named)}")
    yield Line("stages:")


def _relative(folder: Path, spec: PipelineSpec) -> str:
    return Path(os.path.relpath(folder, spec.path.parent)).as_posix()


def _fields(tree: Mapping[str, Any], indent: str) -> Iterator[Line]:
    for name, value in tree.items():
        if isinstance(value, Line):
            yield Line(f"{indent}{name}: {value.text}", value.origin)
        elif isinstance(value, dict | list):
            below = list(_below(value, f"{indent}  "))
            if below:
                yield Line(f"{indent}{name}:")
                yield from below


def _below(value: Any, indent: str) -> Iterator[Line]:
    if isinstance(value, dict):
        yield from _fields(value, indent)
        return
    for item in value:
        first, *rest = list(_below(item, f"{indent}  ")) or [Line(f"{indent}  {{}}")]
        yield Line(f"{indent}{ITEM}{first.text[len(indent) + len(ITEM) :]}", first.origin)
        yield from rest


def _aligned(lines: list[Line]) -> list[str]:
    column = max((len(line.text) for line in lines if line.origin and len(line.text) <= WIDEST), default=0)
    return [
        f"{line.text.ljust(column)}  # {' '.join(line.origin.split())}" if line.origin else line.text
        for line in lines
    ]
