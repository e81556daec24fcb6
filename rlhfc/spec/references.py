"""``${…}`` in a text: a variable, an axis, an environment variable; ``$${`` is a literal ``${``.

Filling replaces variables and axes. ``${env:NAME}`` stays as it is: its value is looked up when a
stage is launched, and nothing but the stage's process ever sees it.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, replace
from typing import Literal

from rlhfc.errors import Mark
from rlhfc.spec.nodes import Node

NAME = re.compile(r"[A-Za-z_][A-Za-z0-9_-]*")
NAME_RULE = "a letter or `_`, then letters, digits, `_` and `-`"
MATRIX, ENVIRONMENT = "matrix.", "env:"
EXCLUDE = "exclude"
"""The entry of a matrix that is no axis."""
_PIECE = re.compile(r"\$\$\{|\$\{[^{}]*\}?")


@dataclass(frozen=True)
class Piece:
    """A part of a text.

    Attributes:
        form: ``plain`` text, or what ``${…}`` refers to; ``malformed`` for anything else inside.
        text: what stands for a plain part, else the name.
        written: as it stands in the spec.
    """

    form: Literal["plain", "variable", "axis", "environment", "malformed"]
    text: str
    written: str


def pieces(text: str) -> Iterator[Piece]:
    """A text taken apart."""
    end = 0
    for found in _PIECE.finditer(text):
        if found.start() > end:
            yield Piece("plain", text[end : found.start()], text[end : found.start()])
        yield _piece(found[0])
        end = found.end()
    if end < len(text):
        yield Piece("plain", text[end:], text[end:])


def _piece(written: str) -> Piece:
    if written == "$${":
        return Piece("plain", "${", written)
    inside = written[2:-1] if written.endswith("}") else ""
    if NAME.fullmatch(inside):
        return Piece("variable", inside, written)
    for prefix, form in ((MATRIX, "axis"), (ENVIRONMENT, "environment")):
        if inside.startswith(prefix) and NAME.fullmatch(inside.removeprefix(prefix)):
            name = inside.removeprefix(prefix)
            return Piece("axis" if form == "axis" else "environment", name, written)
    return Piece("malformed", inside, written)


def alone(node: Node) -> Piece | None:
    """The variable or axis when the whole value is just that, so that its value is taken with its type."""
    if not isinstance(node.data, str) or not node.data.startswith("${"):
        return None
    found = list(pieces(node.data))
    return found[0] if len(found) == 1 and found[0].form in ("variable", "axis") else None


def texts(node: Node) -> Iterator[Node]:
    """Every text below a node in which something may stand for something else."""
    if node.mapping is not None:
        for below in node.mapping.values():
            yield from texts(below)
    elif node.items is not None:
        for below in node.items:
            yield from texts(below)
    elif isinstance(node.data, str) and "${" in node.data:
        yield node


def names_in(nodes: Iterable[Node]) -> set[str]:
    """Every variable and axis that is named anywhere below, axes as ``matrix.<axis>``."""
    parts = (part for node in nodes for text in texts(node) for part in pieces(str(text.data)))
    return {name_of(part) for part in parts if part.form in ("variable", "axis")}


def environment_names(nodes: Iterable[Node]) -> set[str]:
    """Every environment variable that is named anywhere below."""
    return {
        part.text
        for node in nodes
        for text in texts(node)
        for part in pieces(str(text.data))
        if part.form == "environment"
    }


def place_of(node: Node, written: str) -> Mark:
    """Where ``written`` stands in a text, else where the text starts."""
    mark = node.mark
    column = (mark.text or "").find(written, mark.column - 1)
    return replace(mark, column=column + 1, length=len(written)) if column >= 0 else mark


def fill(node: Node, values: Mapping[str, Node]) -> Node:
    """A value with its variables and axes replaced.

    A whole value keeps the place of what it stands for: that is where it would be mended. Its key
    is the place of use. A name without a value is left as it is.

    Args:
        node: the value.
        values: by name, axes as ``matrix.<axis>``; complete in themselves.
    """
    if node.mapping is not None:
        entries = {name: fill(below, values) for name, below in node.mapping.items()}
        if all(entries[name] is below for name, below in node.mapping.items()):
            return node
        return replace(node, data=entries, size=1 + sum(below.size for below in entries.values()))
    if node.items is not None:
        items = [fill(below, values) for below in node.items]
        if all(new is old for new, old in zip(items, node.items, strict=True)):
            return node
        return replace(node, data=items, size=1 + sum(below.size for below in items))
    return _fill_text(node, values) if isinstance(node.data, str) and "${" in node.data else node


def _fill_text(node: Node, values: Mapping[str, Node]) -> Node:
    whole = alone(node)
    if whole is not None and (value := values.get(name_of(whole))) is not None:
        return replace(value, key=node.key or node.mark)
    parts = list(pieces(str(node.data)))
    text = "".join(_filled(piece, values) for piece in parts)
    joined = any(piece.form in ("variable", "axis") and name_of(piece) in values for piece in parts)
    return replace(node, data=text, text=text, joined=joined)


def _filled(piece: Piece, values: Mapping[str, Node]) -> str:
    if piece.form == "plain":
        return piece.text
    value = values.get(name_of(piece)) if piece.form in ("variable", "axis") else None
    return value.text if value is not None else piece.written


def name_of(piece: Piece) -> str:
    """How the value of a piece is called in a mapping of values."""
    return f"{MATRIX}{piece.text}" if piece.form == "axis" else piece.text
