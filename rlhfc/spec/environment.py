"""Environment variables of stages: names that may be set, and places where secrets may stand."""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping

from pydantic import BaseModel

from rlhfc.compile.impacts import impact_of
from rlhfc.compile.secrets import HARMLESS
from rlhfc.environment import HARMLESS_NAMES, RESERVED
from rlhfc.errors import Diagnostic
from rlhfc.kind import SECRET, Impact, InputModel
from rlhfc.spec.messages import models_at
from rlhfc.spec.model import Draft
from rlhfc.spec.nodes import Node, Path
from rlhfc.spec.references import place_of
from rlhfc.trust import Trust

FIELD = "environment"
_NAME = re.compile(r"[A-Za-z_][A-Za-z0-9_]*")


def environment_faults(drafts: Mapping[str, Draft], trust: Trust) -> Iterator[Diagnostic]:
    """What is wrong with the variables that stages are given."""
    for draft in drafts.values():
        # Of a stage with a wrong field, only what is right so far can be looked at.
        for name, text in getattr(draft.params, FIELD, {}).items():
            node = draft.node.descend((FIELD, name))[0]
            place, where = node.key or node.mark, draft.address((FIELD,))
            fault = _name_fault(name) or ("its value holds a NUL character" if "\0" in text else None)
            if fault is not None:
                yield Diagnostic(f"{where}: {fault}", place)
            elif not HARMLESS_NAMES.fullmatch(name):
                said = f"{where}: `{name}` may bring code into a launch"
                untrusted = trust.author_fault(place, said)
                yield from (untrusted,) if untrusted is not None else ()


def _name_fault(name: str) -> str | None:
    if not _NAME.fullmatch(name):
        return f"`{name}` cannot be the name of a variable"
    if name in RESERVED or name.startswith("RLHFC_"):
        return f"`{name}` is set by rlhfc or the launcher, from other settings"
    return None


def misplaced_secrets(drafts: Mapping[str, Draft]) -> Iterator[tuple[Node, Diagnostic]]:
    """Texts with a secret in a setting that may change the result or is recorded with it."""
    for draft in drafts.values():
        if draft.loaded is None:
            continue
        for path, node in _secrets(draft.node, ()):
            impact = _impact_at(draft.loaded.kind.params, path)
            for found in SECRET.finditer(str(node.data)) if impact not in HARMLESS else ():
                message = f"{draft.address(path)}: `{found[0]}` cannot stand in a {impact} setting"
                yield node, Diagnostic(message, place_of(node, found[0]), "use `vars` or `--set`")


def _secrets(node: Node, path: Path) -> Iterator[tuple[Path, Node]]:
    if node.mapping is not None:
        for name, below in node.mapping.items():
            yield from _secrets(below, (*path, name))
    elif node.items is not None:
        for index, below in enumerate(node.items):
            yield from _secrets(below, (*path, index))
    elif isinstance(node.data, str) and SECRET.search(node.data):
        yield path, node


def _impact_at(model: type[BaseModel], path: Path) -> Impact:
    """Impact of the value at a place; that of a field around it holds unless that is semantic."""
    for length, step in enumerate(path):
        for found in models_at(model, path[:length]):
            info = found.model_fields.get(str(step))
            impact = impact_of(info) if info is not None and found is not InputModel else "semantic"
            if impact != "semantic":
                return impact
    return "semantic"
