"""YAML values that remember where they were written."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

from rlhfc.errors import Mark

Scalar = str | int | float | bool | None
Path = tuple[str | int, ...]


@dataclass(frozen=True)
class Node:
    """One value of a YAML document.

    Nodes are never changed, so that aliases, defaults and overrides share them.

    Attributes:
        data: a scalar, a mapping of text to nodes, or a list of nodes.
        mark: where the value starts; a scalar's mark covers it.
        key: where the key that names it stands, None for list items and the document itself.
        text: a scalar as it was written.
        size: values that it stands for, itself among them, with its aliases written out.
        joined: whether it is a text in which values were put beside other characters.
    """

    data: Scalar | Mapping[str, Node] | Sequence[Node]
    mark: Mark
    key: Mark | None = None
    text: str = ""
    size: int = 1
    joined: bool = False

    @property
    def mapping(self) -> Mapping[str, Node] | None:
        """The entries when this is a mapping."""
        return self.data if isinstance(self.data, Mapping) else None

    @property
    def items(self) -> Sequence[Node] | None:
        """The items when this is a list."""
        data = self.data
        return data if isinstance(data, Sequence) and not isinstance(data, str) else None

    def child(self, step: str | int) -> Node | None:
        """The entry or item called ``step``, or None; an index may be text, as in an address."""
        if self.mapping is not None:
            return self.mapping.get(str(step))
        index = _index(step)
        if self.items is not None and index is not None and index < len(self.items):
            return self.items[index]
        return None

    def descend(self, path: Path) -> tuple[Node, int]:
        """The deepest node along ``path`` that is present, and how many steps led there."""
        node, steps = self, 0
        for step in path:
            below = node.child(step)
            if below is None:
                break
            node, steps = below, steps + 1
        return node, steps

    def place(self) -> Mark:
        """Where to point at: a scalar itself, and the key of a mapping or list."""
        collection = self.mapping is not None or self.items is not None
        return self.key if collection and self.key is not None else self.mark

    def plain(self) -> Any:
        """The value as dicts, lists and scalars."""
        if self.mapping is not None:
            return {name: node.plain() for name, node in self.mapping.items()}
        if self.items is not None:
            return [node.plain() for node in self.items]
        return self.data

    def put(self, path: Path, value: Node) -> Node:
        """A copy in which ``value`` stands at ``path``; mappings on the way are made when missing.

        Raises:
            LookupError: a step leads into a scalar, or to a list item that is not there; its
                argument is the number of steps that could be taken.
        """
        if not path:
            return value
        step, rest = path[0], path[1:]
        if self.mapping is not None:
            below = self.mapping.get(str(step)) or Node({}, value.mark, value.mark)
            return replace(self, data={**self.mapping, str(step): _below(below, rest, value)})
        index = _index(step)
        if self.items is None or index is None or index >= len(self.items):
            raise LookupError(0)
        items = list(self.items)
        items[index] = _below(items[index], rest, value)
        return replace(self, data=items)


def _index(step: str | int) -> int | None:
    return int(step) if str(step).isdecimal() else None


def _below(node: Node, path: Path, value: Node) -> Node:
    try:
        return node.put(path, value)
    except LookupError as error:
        raise LookupError(error.args[0] + 1) from None
