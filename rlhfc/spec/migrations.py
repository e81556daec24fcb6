"""Older forms of a spec, brought up to the form of now.

A form that changes gets a new number, and a migration from the number before: a function of the
file's nodes, which keep their marks, so that mistakes still name the line that the user wrote. It may
rename and rearrange, and must leave every action key where it was: a spec of an older form means what
it meant. Files are never rewritten. So far there has been one form.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import replace

from rlhfc.errors import Diagnostic, UserError
from rlhfc.spec.nodes import Node

CURRENT = 1
MIGRATIONS: Mapping[int, Callable[[Node], Node]] = {}
"""From the form of this number to that of the next."""


def migrated(root: Node) -> Node:
    """A file of a spec in the form of now; what says no number, or none that is known, is left as it is.

    Raises:
        UserError: it is newer than this rlhfc.
    """
    version = root.child("schema") if root.mapping is not None else None
    if version is None or not isinstance(version.data, int) or isinstance(version.data, bool):
        return root
    if version.data > CURRENT:
        message = f"`schema: {version.data}` is newer than this rlhfc, which reads {CURRENT}"
        raise UserError(Diagnostic(message, version.place(), "upgrade rlhfc"))
    number = version.data
    while number in MIGRATIONS:
        root, number = MIGRATIONS[number](root), number + 1
    return root if number == version.data else root.put(("schema",), replace(version, data=number))
