"""``matrix:`` of a spec: its axes, their values, and the choices that are excluded."""

from __future__ import annotations

import re
from collections.abc import Collection, Iterator, Mapping
from dataclasses import dataclass, field
from itertools import product
from pathlib import Path

from rlhfc.errors import Diagnostic, Mark, did_you_mean, listing
from rlhfc.spec.messages import shown
from rlhfc.spec.nodes import Node
from rlhfc.spec.references import EXCLUDE, NAME, NAME_RULE, alone

_UNSAFE = re.compile(r"[^A-Za-z0-9._+-]+")

NOTHING = Node({}, Mark(Path(), 0, 0))

Choice = Mapping[str, str]
"""One value for each of some axes, by the value's name."""


@dataclass(frozen=True)
class Matrix:
    """Axes with their values by name, and the choices that make no variant."""

    axes: Mapping[str, Mapping[str, Node]] = field(default_factory=dict)
    excluded: tuple[Choice, ...] = ()
    node: Node = NOTHING

    def choices(self, axes: Collection[str]) -> Iterator[Choice]:
        """Every choice over some axes, in the order of the matrix, but those that are excluded."""
        ordered = [axis for axis in self.axes if axis in axes]
        for names in product(*(self.axes[axis] for axis in ordered)):
            choice = dict(zip(ordered, names, strict=True))
            if not any(entry.items() <= choice.items() for entry in self.excluded):
                yield choice

    def values(self, choice: Choice) -> dict[str, Node]:
        """The values of a choice."""
        return {axis: self.axes[axis][name] for axis, name in choice.items()}


def axis_names(root: Node) -> tuple[str, ...]:
    """Names that ``${matrix.…}`` may have, before anything is checked."""
    node = root.child("matrix")
    whole = alone(node) if node is not None else None
    if whole is not None and whole.form == "variable":
        node = root.descend(("vars", whole.text))[0]
    return tuple(name for name in (node.mapping or {}) if name != EXCLUDE) if node is not None else ()


def read_matrix(node: Node | None, faults: list[Diagnostic]) -> Matrix:
    """The matrix of a spec, its names replaced; what is wrong with it is left out."""
    if node is None or node.mapping is None:
        return Matrix()
    axes = {name: _values(name, below, faults) for name, below in node.mapping.items() if name != EXCLUDE}
    excluded = node.child(EXCLUDE)
    listed = tuple(_excluded(excluded, axes, faults)) if excluded is not None else ()
    return Matrix({name: values for name, values in axes.items() if values}, listed, node)


def _values(axis: str, node: Node, faults: list[Diagnostic]) -> dict[str, Node]:
    if not NAME.fullmatch(axis):
        message = f"`{axis}` cannot be the name of an axis"
        faults.append(Diagnostic(message, node.key or node.mark, NAME_RULE))
    if not node.items:
        message = (
            f"matrix.{axis}: expected a list of values, got {shown(node) if node.items is None else 'none'}"
        )
        one = node.text if node.mapping is None and node.items is None else ""
        faults.append(Diagnostic(message, node.place(), f"write `[{one}]`" if one else None))
    values: dict[str, Node] = {}
    for item in node.items or ():
        name = value_name(item)
        if item.mapping is not None or item.items is not None:
            message, hint = (
                f"expected a number or text, got {shown(item)}",
                "make an axis for each number or text that differs",
            )
        elif not name:
            message, hint = f"{shown(item)} gives a variant no name", None
        elif name in values:
            message, hint = f"two values are called `{name}`", "variants are called by their values"
        else:
            values[name] = item
            continue
        faults.append(Diagnostic(f"matrix.{axis}: {message}", item.mark, hint))
    return values


def value_name(node: Node) -> str:
    """How a value is called in a variant's name: one spelling for each number, safe characters in text."""
    if isinstance(node.data, bool) or node.data is None:
        return {True: "true", False: "false", None: "null"}[node.data]
    if isinstance(node.data, int | float):
        return repr(node.data)
    return _UNSAFE.sub("-", node.data).strip("-") if isinstance(node.data, str) else ""


def _excluded(
    node: Node, axes: Mapping[str, Mapping[str, Node]], faults: list[Diagnostic]
) -> Iterator[Choice]:
    if node.items is None:
        message = f"matrix.{EXCLUDE}: expected a list of mappings from axis to value, got {shown(node)}"
        faults.append(Diagnostic(message, node.place()))
    for item in node.items or ():
        if not item.mapping:
            got = shown(item) if item.mapping is None else "an empty one"
            message = f"matrix.{EXCLUDE}: expected a mapping from axis to value, got {got}"
            faults.append(Diagnostic(message, item.place()))
            continue
        found = [_excluded_fault(axis, value, axes) for axis, value in item.mapping.items()]
        faults.extend(fault for fault in found if fault is not None)
        if not any(found):
            yield {axis: value_name(value) for axis, value in item.mapping.items()}


def _excluded_fault(axis: str, value: Node, axes: Mapping[str, Mapping[str, Node]]) -> Diagnostic | None:
    if axis not in axes:
        message = f"matrix.{EXCLUDE}: there is no axis `{axis}`"
        return Diagnostic(message, value.key or value.mark, did_you_mean(axis, axes, "axes"))
    # Where the axis was replaced from elsewhere, what is excluded may no longer be on it.
    here = any(other.mark.file == value.mark.file for other in axes[axis].values())
    if here and value_name(value) not in axes[axis]:
        message = f"matrix.{EXCLUDE}: axis `{axis}` has no value {shown(value)}"
        return Diagnostic(message, value.place(), f"values: {listing(list(axes[axis]))}")
    return None
