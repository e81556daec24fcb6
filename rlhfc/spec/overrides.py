"""``--set stage.field.sub=value``: values of the command line over those of the spec.

``vars``, ``defaults`` and ``matrix`` in the first place mean the spec's own, unless a stage has that name.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

from rlhfc.compile.action import VARIANT
from rlhfc.errors import OPTION, Diagnostic, Mark, UserError, did_you_mean, listing
from rlhfc.spec.nodes import Node
from rlhfc.spec.parse import parse_text

TOP_LEVEL = ("vars", "defaults", "matrix")


def folder_of(mark: Mark, spec: Path) -> Path:
    """Where a relative path that is written at ``mark`` starts: in its file's folder, or the spec's."""
    return (spec if mark.file == OPTION else mark.file).parent


def override(root: Node, overrides: Sequence[str], faults: list[Diagnostic]) -> Node:
    """The spec with each override put in its place, later ones over earlier ones.

    One that is not ``stage.field=value``, whose value is not YAML or that leads nowhere adds to
    ``faults`` instead. Whether the field exists and accepts the value is checked with the rest.
    """
    for argument in overrides:
        try:
            root = _put(root, argument)
        except UserError as error:
            faults.extend(error.diagnostics)
    return root


def _put(root: Node, argument: str) -> Node:
    address, equals, text = argument.partition("=")
    path = tuple(address.split("."))
    whole = Mark(OPTION, 0, 1, len(argument), argument)
    if not equals or len(path) < 2 or not all(path):
        variant = f", without `{VARIANT}`: it holds for all variants of a stage" if VARIANT in address else ""
        form = "not of the form `stage.field=value`"
        raise UserError(Diagnostic(form, whole, f"for example `ppo.kl_coef=0.05`{variant}"))
    stages = root.child("stages")
    known = stages.mapping if stages is not None else None
    if path[0] not in TOP_LEVEL or path[0] in (known or ()):
        path = ("stages", *path)
    if known is not None and path[0] == "stages" and path[1] not in known:
        mark = Mark(OPTION, 0, 1, len(path[1]), argument)
        raise UserError(
            Diagnostic(f"there is no stage `{path[1]}`", mark, did_you_mean(path[1], known, "stages"))
        )
    value = replace(_value(text, argument), key=Mark(OPTION, 0, 1, len(address), argument))
    try:
        return root.put(path, value)
    except LookupError as error:
        steps = error.args[0]
        parent = ".".join(path[:steps]).removeprefix("stages.")
        message = f"`{parent}` has no `{path[steps]}`"
        items = root.descend(path[:steps])[0].items
        hint = f"items: {listing([str(place) for place in range(len(items))])}" if items else None
        raise UserError(Diagnostic(message, whole, hint)) from None


def _value(text: str, argument: str) -> Node:
    """The YAML after the equals sign, with its marks where they stand in the whole argument."""
    columns = len(argument) - len(text)
    if not text:
        return Node(None, Mark(OPTION, 0, columns + 1, 1, argument))
    try:
        return _moved(parse_text(text, OPTION, argument=True), columns, argument)
    except UserError as error:
        moved = (replace(fault, mark=_shifted(fault.mark, columns, argument)) for fault in error.diagnostics)
        raise UserError(moved) from None


def _moved(node: Node, columns: int, argument: str) -> Node:
    data = node.data
    if node.mapping is not None:
        data = {name: _moved(child, columns, argument) for name, child in node.mapping.items()}
    elif node.items is not None:
        data = [_moved(child, columns, argument) for child in node.items]
    mark = _shifted(node.mark, columns, argument) or node.mark
    return replace(node, data=data, mark=mark, key=_shifted(node.key, columns, argument))


def _shifted(mark: Mark | None, columns: int, argument: str) -> Mark | None:
    return replace(mark, column=mark.column + columns, text=argument) if mark else None
