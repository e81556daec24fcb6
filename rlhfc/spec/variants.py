"""Variants of stages. A stage is multiplied over the axes that it uses, and the stages that it reads from.

It is multiplied over no others: a sweep of PPO shares one SFT.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Collection, Iterator, Mapping
from dataclasses import dataclass, replace

from rlhfc.compile.action import VARIANT, LoadedKind
from rlhfc.errors import Diagnostic
from rlhfc.spec.matrix import Choice, Matrix
from rlhfc.spec.nodes import Node, Path, Scalar
from rlhfc.spec.references import EXCLUDE, fill
from rlhfc.spec.variables import Scope

VARIANT_LIMIT = 1_000
"""Variants of one stage."""
NAME_LIMIT = 150
"""Characters of a variant's name, which is part of folders' names."""


@dataclass(frozen=True)
class RawStage:
    """A stage before names are replaced.

    Attributes:
        node: its fields without ``kind``, defaults filled in.
        loaded: None when the kind is unknown.
        defaulted: fields whose value came from ``defaults``.
    """

    node: Node
    loaded: LoadedKind | None
    defaulted: frozenset[str] = frozenset()


@dataclass(frozen=True)
class Variant:
    """A stage with one choice of values.

    Attributes:
        node: its fields, names replaced, references leading to the matching variants.
        values: of its axes.
    """

    raw: RawStage
    node: Node
    values: Mapping[str, Scalar]


def expand(
    stages: Mapping[str, RawStage], matrix: Matrix, scope: Scope, faults: list[Diagnostic]
) -> dict[str, Variant]:
    """Every stage, or its variants instead of it, by name.

    Args:
        stages: by name, in the order of the spec.
        matrix: axes and what is excluded.
        scope: what names stand for.
        faults: is given what is wrong.
    """
    if not matrix.axes:
        values = scope.under()
        return {name: Variant(raw, fill(raw.node, values), {}) for name, raw in stages.items()}
    own = {name: scope.axes_of(raw.node) & matrix.axes.keys() for name, raw in stages.items()}
    small = {name: raw for name, raw in stages.items() if _fits(name, raw, own[name], matrix, faults)}
    values_of = scope.varied()
    filled = {name: _Filled(raw, own[name], matrix, values_of) for name, raw in small.items()}
    axes = _inherited(filled, own)
    found: dict[str, Variant] = {}
    for name, raw in small.items():
        if axes[name] == own[name] or _fits(name, raw, axes[name], matrix, faults):
            variants = dict(_variants(name, filled[name], axes, matrix))
            found |= variants
            faults.extend(_misfits(name, variants, matrix))
    return found


class _Filled:
    """A stage with the values of its own axes, once for each choice of them."""

    def __init__(
        self,
        raw: RawStage,
        own: Collection[str],
        matrix: Matrix,
        values_of: Callable[[Mapping[str, Node]], Mapping[str, Node]],
    ) -> None:
        self.raw, self.own = raw, own
        self._nodes = {
            tuple(choice.items()): fill(raw.node, values_of(matrix.values(choice)))
            for choice in matrix.choices(own)
        }

    def under(self, choice: Choice) -> Node:
        return self._nodes[tuple((axis, name) for axis, name in choice.items() if axis in self.own)]

    def upstream(self) -> set[str]:
        """Stages that any of them reads from."""
        return {
            reference.rpartition(".")[0]
            for node in self._nodes.values()
            for _, reference in _references(node, self.raw.loaded)
        }


def _references(node: Node, loaded: LoadedKind | None) -> Iterator[tuple[Path, str]]:
    """Place and text of each input that is a reference."""
    for pattern in loaded.kind.inputs if loaded is not None else ():
        for path in _matching(node, tuple(pattern.split("."))):
            found, steps = node.descend((*path, "ref"))
            if steps >= len(path) and isinstance(found.data, str):
                yield (*path, "ref")[:steps], found.data


def _matching(node: Node, pattern: tuple[str, ...]) -> Iterator[Path]:
    """Places that a pattern leads to."""
    if not pattern:
        yield ()
        return
    steps: Collection[str | int] = (pattern[0],)
    if pattern[0] == "*":
        steps = range(len(node.items)) if node.items is not None else list(node.mapping or ())
    for step in steps:
        below = node.child(step)
        if below is not None:
            yield from ((step, *rest) for rest in _matching(below, pattern[1:]))


def _inherited(filled: Mapping[str, _Filled], own: Mapping[str, frozenset[str]]) -> dict[str, frozenset[str]]:
    """Axes of each stage: its own and those of everything that it reads from."""
    upstream = {name: stage.upstream() for name, stage in filled.items()}
    axes = dict(own)
    readers: dict[str, list[str]] = {}
    for name, above in upstream.items():
        for stage in above:
            readers.setdefault(stage, []).append(name)
    waiting = [name for name in axes if axes[name]]
    while waiting:  # in circles too, which are told later
        name = waiting.pop()
        for reader in readers.get(name, ()):
            if not axes[name] <= axes[reader]:
                axes[reader] = axes[reader] | axes[name]
                waiting.append(reader)
    return axes


def _variants(
    name: str, stage: _Filled, axes: Mapping[str, frozenset[str]], matrix: Matrix
) -> Iterator[tuple[str, Variant]]:
    for choice in matrix.choices(axes[name]):
        node = stage.under(choice)
        for path, reference in _references(node, stage.raw.loaded):
            upstream, _, port = reference.rpartition(".")
            if axes.get(upstream):
                below = {axis: value for axis, value in choice.items() if axis in axes[upstream]}
                found = node.descend(path)[0]
                node = node.put(path, replace(found, data=f"{variant_name(upstream, below)}.{port}"))
        values = {axis: _scalar(value) for axis, value in matrix.values(choice).items()}
        yield variant_name(name, choice), Variant(stage.raw, node, values)


def variant_name(stage: str, choice: Choice) -> str:
    """``ppo@kl=0.02,lr=1e-06``, or the stage's own name when nothing is chosen."""
    chosen = ",".join(f"{axis}={value}" for axis, value in choice.items())
    return f"{stage}{VARIANT}{chosen}" if chosen else stage


def _scalar(node: Node) -> Scalar:
    data = node.data
    assert data is None or isinstance(data, str | int | float | bool), "an axis holds scalars"
    return data


def _fits(name: str, raw: RawStage, axes: Collection[str], matrix: Matrix, faults: list[Diagnostic]) -> bool:
    """Whether a stage has no more variants than are made."""
    count = math.prod(len(matrix.axes[axis]) for axis in axes)
    if count > VARIANT_LIMIT:
        sizes = ", ".join(f"`{axis}` {len(matrix.axes[axis])}" for axis in matrix.axes if axis in axes)
        message = f"{name}: {count:,} variants, and at most {VARIANT_LIMIT:,} are made"
        faults.append(Diagnostic(message, raw.node.place(), f"values of its axes: {sizes}"))
    return count <= VARIANT_LIMIT


def _misfits(name: str, variants: Mapping[str, Variant], matrix: Matrix) -> Iterator[Diagnostic]:
    if not variants:
        place = matrix.node.descend((EXCLUDE,))[0].place()
        yield Diagnostic(f"matrix.{EXCLUDE} leaves no variant of `{name}`", place)
    longest = max(variants, key=len, default="")
    if len(longest) > NAME_LIMIT:
        message = (
            f"a variant of `{name}` has a name of {len(longest)} characters, and {NAME_LIMIT} is the most"
        )
        place = variants[longest].raw.node.place()
        yield Diagnostic(message, place, f"shorten axes or their values: `{longest[:60]}…`")
