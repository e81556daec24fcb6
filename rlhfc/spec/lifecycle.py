"""What a spec says of when results stand: names in it that lead nowhere."""

from __future__ import annotations

from collections.abc import Iterator, Mapping

from rlhfc.compile.policy import LibraryPolicy
from rlhfc.errors import Diagnostic, did_you_mean
from rlhfc.spec.model import Draft, SpecFile
from rlhfc.spec.nodes import Node


def library_policy(top: SpecFile) -> LibraryPolicy:
    """The policy that a spec states."""
    if isinstance(top.libraries, str):
        return LibraryPolicy(strict=True)
    return LibraryPolicy(named=top.libraries)


def library_faults(root: Node, drafts: Mapping[str, Draft]) -> Iterator[Diagnostic]:
    """Names under ``libraries`` that no stage of the spec depends on."""
    node = root.child("libraries")
    kinds = [draft.loaded for draft in drafts.values()]
    if None in kinds:  # with a kind unknown, nobody can tell that a name is wrong
        return
    known = dict.fromkeys(name for loaded in kinds if loaded for name in loaded.kind.libraries)
    for name, value in ((node.mapping or {}) if node else {}).items():
        if name not in known:
            hint = did_you_mean(name, known, "libraries")
            yield Diagnostic(f"libraries: no stage depends on `{name}`", value.key, hint)
