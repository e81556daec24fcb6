"""``vars:`` of a spec: what each stands for, and everything that is wrong with the use of ``${…}``."""

from __future__ import annotations

import re
from collections import ChainMap
from collections.abc import Callable, Collection, Iterable, Iterator, Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path

from rlhfc.errors import Diagnostic, Mark, did_you_mean, nearest
from rlhfc.spec.model import References
from rlhfc.spec.nodes import Node
from rlhfc.spec.parse import ALIAS_LIMIT, DEPTH_LIMIT
from rlhfc.spec.ports import in_order
from rlhfc.spec.references import (
    ENVIRONMENT,
    EXCLUDE,
    MATRIX,
    NAME,
    NAME_RULE,
    Piece,
    alone,
    fill,
    names_in,
    pieces,
    place_of,
    texts,
)

TEXT_LIMIT = 100_000
"""Characters that a text may grow to."""
WITHIN_STAGES = ("stages", "defaults")
_LITERAL = "a literal `${` is written `$${`"
_FORMS = f"write `${{name}}`, `${{{MATRIX}axis}}` or `${{{ENVIRONMENT}NAME}}`; {_LITERAL}"


@dataclass(frozen=True)
class _Extent:
    """What a value comes to when everything in it is filled."""

    size: int = 1
    depth: int = 0
    length: int = 0
    axes: frozenset[str] = frozenset()
    secret: bool = False
    collection: bool = False


@dataclass
class Scope:
    """What the names in a spec stand for.

    Attributes:
        variables: as written, each after those that it uses; without those that are wrong.
        axes: names that ``${matrix.…}`` may have.
        faults: what is wrong with the use of names.
        broken: places of the values whose references are wrong; nothing else can be said of them.
        extents: of the variables.
    """

    variables: dict[str, Node] = field(default_factory=dict)
    axes: Collection[str] = ()
    faults: list[Diagnostic] = field(default_factory=list)
    broken: set[Mark] = field(default_factory=set)
    extents: dict[str, _Extent] = field(default_factory=dict)

    def under(self) -> dict[str, Node]:
        """Values of all variables; axes in them are left as they are."""
        values: dict[str, Node] = {}
        for name, node in self.variables.items():
            values[name] = fill(node, values)
        return values

    def varied(self) -> Callable[[Mapping[str, Node]], Mapping[str, Node]]:
        """What gives the values of all names, for a choice of one value for each axis.

        Only variables that depend on an axis are filled for each choice: there may be thousands of both.
        """
        flat = self.under()
        varying = [name for name in self.variables if self.extents[name].axes]

        def values(assignment: Mapping[str, Node]) -> Mapping[str, Node]:
            chosen = {f"{MATRIX}{axis}": node for axis, node in assignment.items()}
            found = ChainMap(chosen, flat)
            for name in varying:
                chosen[name] = fill(self.variables[name], found)
            return found

        return values

    def opened(self, node: Node) -> Node:
        """A value that is a variable and nothing else, one level deep: what it stands for, unfilled."""
        while (whole := alone(node)) and whole.form == "variable" and whole.text in self.variables:
            node = replace(self.variables[whole.text], key=node.key)
        return node

    def withdraw(self, axes: Collection[str], nodes: Iterable[Node]) -> None:
        """Take note that only these axes have values; uses of the others are no second mistake."""
        lost = set(self.axes) - set(axes)
        if not lost:
            return
        for text in (text for node in nodes for text in texts(node)):
            if self.axes_of(text) & lost:
                self.broken.add(text.mark)

    def axes_of(self, node: Node) -> frozenset[str]:
        """Axes that a value depends on, by itself or through variables."""
        return self.extent(node).axes

    def extent(self, node: Node) -> _Extent:
        """What a value comes to."""
        below = list(node.mapping.values()) if node.mapping is not None else node.items
        if below is None:
            return self._of_text(node) if isinstance(node.data, str) and "${" in node.data else _Extent()
        found = [self.extent(each) for each in below]
        return _Extent(
            size=1 + sum(each.size for each in found),
            depth=1 + max((each.depth for each in found), default=0),
            length=max((each.length for each in found), default=0),
            axes=frozenset().union(*(each.axes for each in found)),
            secret=any(each.secret for each in found),
            collection=True,
        )

    def _of_text(self, node: Node) -> _Extent:
        parts = list(pieces(str(node.data)))
        known = {
            part.text: self.extents.get(part.text, _Extent()) for part in parts if part.form == "variable"
        }
        axes = {part.text for part in parts if part.form == "axis"}
        whole = alone(node)
        return _Extent(
            size=known[whole.text].size if whole and whole.text in known else 1,
            depth=known[whole.text].depth if whole and whole.text in known else 0,
            length=sum(self._length(part) for part in parts),
            axes=frozenset(axes).union(*(each.axes for each in known.values())),
            secret=any(part.form == "environment" for part in parts) or any(e.secret for e in known.values()),
            collection=whole is not None and whole.text in known and known[whole.text].collection,
        )

    def _length(self, part: Piece) -> int:
        if part.form != "variable" or part.text not in self.variables:
            return len(part.text)
        return max(self.extents[part.text].length, len(self.variables[part.text].text))


def read_scope(root: Node, axes: Collection[str]) -> Scope:
    """Variables of a spec, and the mistakes in all its references.

    Args:
        root: the spec.
        axes: of its matrix.
    """
    declared = root.child("vars")
    every = (declared.mapping or {}) if declared is not None else {}
    given = {name: node for name, node in every.items() if NAME.fullmatch(name)}
    scope = Scope(axes=axes)
    for name in (name for name in every if name not in given):
        message = f"`{name}` cannot be the name of a variable"
        scope.faults.append(Diagnostic(message, _key(every[name]), NAME_RULE))
    _define(scope, given)
    for name, node in (root.mapping or {}).items():
        inside = name in (*WITHIN_STAGES, "vars")
        for text in texts(node):
            scope.faults.extend(_faults(scope, text, given, axes_here=inside))
    if scope.variables:
        _check_total(scope, root)
    return scope


def _define(scope: Scope, given: Mapping[str, Node]) -> None:
    """Put the variables in order; those in a circle, or that grow beyond all bounds, are faults."""
    uses: References = {
        name: {used: [] for used in names_in([node]) if used in given} for name, node in given.items()
    }
    if len(in_order(uses)) < len(given):
        uses = _without_circles(scope, given, uses)
    for name in in_order(uses):
        extent = scope.extent(given[name])
        fault = _too_large(extent)
        if fault is not None:
            scope.faults.append(Diagnostic(f"`{name}` {fault}", _key(given[name])))
            extent = _Extent()
        else:
            scope.variables[name] = given[name]
        scope.extents[name] = extent


def _without_circles(scope: Scope, given: Mapping[str, Node], uses: References) -> References:
    """What is left when the variables that use each other are told and taken away."""
    from rlhfc.spec.knots import circles, graph_of, knotted

    graph = graph_of(uses)
    for circle in circles(graph.reverse()):
        message = f"variables use each other: {' → '.join(circle)}"
        scope.faults.append(Diagnostic(message, _key(given[circle[0]])))
    gone = knotted(graph)
    scope.broken.update(given[name].mark for name in gone)
    return {
        name: {used: [] for used in below if used not in gone}
        for name, below in uses.items()
        if name not in gone
    }


def _too_large(extent: _Extent) -> str | None:
    if extent.size > ALIAS_LIMIT:
        return f"expands to more than {ALIAS_LIMIT:,} values"
    if extent.depth > DEPTH_LIMIT:
        return f"has more than {DEPTH_LIMIT} levels of nesting"
    if extent.length > TEXT_LIMIT:
        return f"grows to more than {TEXT_LIMIT:,} characters"
    return None


def _check_total(scope: Scope, root: Node) -> None:
    """All uses together are limited as a single variable is."""
    for name in WITHIN_STAGES:
        node = root.child(name)
        extent = scope.extent(node) if node is not None else _Extent()
        grown = extent.size - (node.size if node is not None else 0)
        fault = _too_large(_Extent(grown, extent.depth, extent.length))
        if fault is not None and node is not None:
            scope.faults.append(Diagnostic(f"{name}: with its variables filled in it {fault}", _key(node)))
            scope.variables.clear()
            scope.broken.update(text.mark for text in texts(root))


def _faults(scope: Scope, node: Node, given: Mapping[str, Node], *, axes_here: bool) -> Iterator[Diagnostic]:
    """What is wrong with the references in one text."""
    parts = list(pieces(str(node.data)))
    for index, part in enumerate(parts):
        after = parts[index + 1].written if index + 1 < len(parts) else ""
        found = _fault(scope, part, given, axes_here=axes_here, whole=len(parts) == 1, after=after)
        if found is not None or (part.form == "variable" and part.text not in scope.variables):
            scope.broken.add(node.mark)
        if found is not None:
            yield Diagnostic(found[0], place_of(node, part.written), found[1])


def _meant(written: str, given: Mapping[str, Node], axes: Collection[str]) -> str:
    """Hint for a form that there is not: what it probably stands for, else the forms that there are."""
    owner, _, name = written.strip("${}").replace(" ", "").rpartition(".")
    if owner == "env" and re.fullmatch(r"\w+", name):
        return f"write `${{{ENVIRONMENT}{name}}}`"
    if owner == MATRIX.rstrip(".") and name in axes:
        return f"write `${{{MATRIX}{name}}}`"
    return f"write `${{{name}}}`" if owner in ("", "var", "vars") and name in given else _FORMS


def _fault(
    scope: Scope, part: Piece, given: Mapping[str, Node], *, axes_here: bool, whole: bool, after: str
) -> tuple[str, str | None] | None:
    """Message and hint for one piece."""
    extent = scope.extents.get(part.text, _Extent()) if part.form == "variable" else _Extent()
    if part.form == "malformed":
        return f"`{part.written}` refers to nothing", _meant(part.written, given, scope.axes)
    if part.form == "plain" and part.written == "$${" and after.startswith(ENVIRONMENT):
        return f"the text `${{{ENVIRONMENT}` always refers to an environment variable", None
    if part.form == "variable" and part.text not in given:
        hint = did_you_mean(part.text, given, "variables") or f"declare it under `vars:`; {_LITERAL}"
        return f"there is no variable `{part.text}`", hint
    if part.form == "axis" and part.text not in scope.axes:
        hint = did_you_mean(part.text, scope.axes, "axes") or "declare it under `matrix:`"
        return f"there is no axis `{part.text}`", hint
    if not axes_here and (part.form == "axis" or extent.axes):
        return f"`{part.written}` differs between the variants of a stage", "use it in fields of stages"
    if not axes_here and (part.form == "environment" or extent.secret):
        return f"`{part.written}` is known to launched stages only", "use `vars` or `--set`"
    if extent.collection and not whole:
        return f"`{part.written}` is a mapping or list, which cannot stand inside a text", None
    return None


def unused_names(root: Node, parts: Iterable[Node], own_files: Collection[Path]) -> Iterator[Diagnostic]:
    """Variables and axes that nothing names.

    Args:
        root: the spec.
        parts: what is in each of its files. A name counts as used where another file or ``--set``
            replaced the value: who tries another value need not take the variable out.
        own_files: as marks name them; an included file may offer more than the spec takes.
    """
    if root.child("vars") is None and root.child("matrix") is None:
        return
    used = names_in([*parts, root])
    axes = {name.removeprefix(MATRIX) for name in used if name.startswith(MATRIX)}
    variables = {name for name in used if not name.startswith(MATRIX)}
    for owner, word, prefix, known in (("vars", "variable", "", variables), ("matrix", "axis", MATRIX, axes)):
        declared = root.child(owner)
        for name, node in ((declared.mapping or {}) if declared is not None else {}).items():
            counts = NAME.fullmatch(name) and name != EXCLUDE and name not in known
            if counts and _key(node).file in own_files:
                close = nearest(name, known if owner == "vars" else {*known, EXCLUDE})
                hint = (
                    f"did you mean `{close}`?" if close else f"write `${{{prefix}{name}}}` where it is meant"
                )
                yield Diagnostic(f"{word} `{name}` is never used", _key(node), hint)


def _key(node: Node) -> Mark:
    return node.key or node.mark
