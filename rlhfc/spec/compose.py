"""One spec from several files: what `include` names lies underneath, overlays lie on top.

Every value keeps its mark, so that mistakes and origins name the file that it was written in.
"""

from __future__ import annotations

import sys
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

from rlhfc.errors import Diagnostic, Mark, UserError, did_you_mean
from rlhfc.kind import InputModel
from rlhfc.observe import LOOKED
from rlhfc.spec.messages import shown
from rlhfc.spec.migrations import migrated
from rlhfc.spec.nodes import Node
from rlhfc.spec.parse import Identity, Read, parse_file

LEVEL_LIMIT = 16
"""Files that include each other, one inside the other."""
REMOVABLE = {"stages": "stage", "matrix": "axis"}
"""Mappings whose entries have no other meaning for null than to be taken away."""
_ORIGINS = frozenset({"ref", "path", "hub"})
_SOURCE_FIELDS = frozenset(InputModel.model_fields)


@dataclass(frozen=True)
class Composed:
    """A spec of one piece.

    Attributes:
        root: without its ``include``.
        files: all that were read, absolute, each once, the spec first.
        parts: what was in each of them.
    """

    root: Node
    files: tuple[Path, ...]
    parts: tuple[Node, ...]


def compose(
    spec: Path,
    overlays: Sequence[Path],
    read: Read,
    faults: list[Diagnostic],
    identity: Identity = Path.resolve,
) -> Composed:
    """Read a spec with everything that belongs to it.

    Args:
        spec: the YAML file; it lies over the files that it includes, later ones over earlier ones.
        overlays: laid over the spec, later ones over earlier ones.
        read: content of a file.
        faults: is given the mistakes that do not hinder composing: something is removed that is not
            there, a file is of another version.
        identity: the same for all names of one file.

    Raises:
        UserError: a file cannot be read or is not YAML, or an ``include`` is malformed or leads in a
            circle.
    """
    composer = _Composer(read, faults, identity)
    root = composer.file(spec, ())
    for overlay in overlays:
        above = composer.attempt(overlay, (), None)
        if root is not None and above is not None:
            root = composer.lay(root, composer.partial(above))
    if composer.fatal or root is None:
        raise UserError([*composer.fatal, *faults])
    return Composed(root, tuple(composer.files), tuple(composer.files.values()))


class _Composer:
    """Reads each file once; what is wrong is gathered."""

    def __init__(self, read: Read, faults: list[Diagnostic], identity: Identity) -> None:
        self.read, self.identity = read, identity
        self.faults = faults
        self.fatal: list[Diagnostic] = []
        self.files: dict[Path, Node] = {}
        self._composed: dict[Path, Node | None] = {}

    def attempt(self, path: Path, within: tuple[Path, ...], at: Mark | None) -> Node | None:
        """As :meth:`file`; a file that is not right is a fault, at the place that names it if it has none."""
        try:
            return self.file(path, within)
        except UserError as error:
            self.fatal.extend(replace(found, mark=found.mark or at) for found in error.diagnostics)
            return None

    def file(self, path: Path, within: tuple[Path, ...]) -> Node | None:
        """A file over what it includes; None when something in an included file is wrong.

        Raises:
            UserError: the file itself cannot be read or parsed.
        """
        sys.audit(LOOKED, path)  # under another name it may have been read, and not be read again
        place = self.identity(path)
        if place not in self._composed:
            root = self.files[path.absolute()] = migrated(parse_file(path, self.read))
            self._composed[place] = self._over_included(root, path, (*within, path))
        return self._composed[place]

    def lay(self, under: Node, over: Node) -> Node:
        """A mapping over another."""
        return _lay(under, over, (), self.faults)

    def partial(self, root: Node) -> Node:
        """A file that need not be a whole spec; its ``schema``, which it may leave out, must be right."""
        if root.mapping is None:
            self.fatal.append(Diagnostic("an included file or overlay is a mapping, as a spec is", root.mark))
            return root
        version = root.child("schema")
        if version is not None and (version.data != 1 or isinstance(version.data, bool)):
            self.faults.append(Diagnostic(f"schema: expected `1`, got {shown(version)}", version.place()))
        return root

    def _over_included(self, root: Node, path: Path, within: tuple[Path, ...]) -> Node | None:
        listed = root.child("include") if root.mapping is not None else None
        if listed is None:
            return root
        under: Node | None = Node({}, root.mark)
        for item in self._items(listed):
            found = self._included(item, path, within)
            under = self.lay(under, found) if under is not None and found is not None else None
        own = {name: node for name, node in (root.mapping or {}).items() if name != "include"}
        return self.lay(under, replace(root, data=own)) if under is not None else None

    def _items(self, listed: Node) -> Sequence[Node]:
        if listed.items is None:
            message = f"include: expected a list of files, got {shown(listed)}"
            hint = f"write `include: [{listed.text}]`" if isinstance(listed.data, str) else None
            self.fatal.append(Diagnostic(message, listed.place(), hint))
        return listed.items or ()

    def _included(self, item: Node, path: Path, within: tuple[Path, ...]) -> Node | None:
        if not isinstance(item.data, str) or not item.data:
            message = f"include: expected the path of a file, got {shown(item)}"
            self.fatal.append(Diagnostic(message, item.place()))
            return None
        target = path.parent / Path(item.data).expanduser()
        circle = [file for file in within if self.identity(file) == self.identity(target)]
        if circle:
            names = [str(file) for file in (*within[within.index(circle[0]) :], target)]
            message = f"files include each other: {' → '.join(names)}"
            self.fatal.append(Diagnostic(message, item.mark, "remove one of the includes"))
            return None
        if len(within) > LEVEL_LIMIT:
            self.fatal.append(Diagnostic(f"more than {LEVEL_LIMIT} levels of `include`", item.mark))
            return None
        found = self.attempt(target, within, item.mark)
        return self.partial(found) if found is not None else None


def _lay(under: Node, over: Node, path: tuple[str, ...], faults: list[Diagnostic]) -> Node:
    """``over`` on ``under``: mappings merge deeply, everything else is replaced.

    A merged mapping is placed where it was first written. A source is one value: a mapping that
    names its origin replaces the source that was there.
    """
    below, above = under.mapping, over.mapping
    if below is None or above is None or _replaces_source(below, above):
        return over
    entries = dict(below)
    for name, node in above.items():
        if node.data is None and len(path) == 1 and path[0] in REMOVABLE:
            if entries.pop(name, None) is None:
                faults.append(_nothing_to_remove(name, node, REMOVABLE[path[0]], below))
        else:
            entries[name] = _lay(entries[name], node, (*path, name), faults) if name in entries else node
    return replace(under, data=entries, size=1 + sum(node.size for node in entries.values()))


def _replaces_source(below: Mapping[str, Node], above: Mapping[str, Node]) -> bool:
    return bool(_ORIGINS & above.keys()) and {*below, *above} <= _SOURCE_FIELDS


def _nothing_to_remove(name: str, node: Node, what: str, known: Mapping[str, Node]) -> Diagnostic:
    message = f"there is no {what} `{name}` to remove"
    return Diagnostic(message, node.key or node.mark, did_you_mean(name, known, "there are"))
