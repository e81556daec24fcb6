"""What a spec says of when results stand: names in it that lead nowhere."""

from __future__ import annotations

from collections.abc import Iterator, Mapping

from rlhfc.compile.impacts import declared_leaves
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


def ignore_faults(drafts: Mapping[str, Draft]) -> Iterator[Diagnostic]:
    """Paths under ``ignore_changes`` that no leaf has, or of which no change reruns anything."""
    for draft in drafts.values():
        if draft.params is None:
            continue
        declared = dict(declared_leaves(type(draft.params)))
        known = [path for path, impact in declared.items() if impact in ("semantic", "numeric")]
        for index, given in enumerate(getattr(draft.params, "ignore_changes", ())):
            path = ("ignore_changes", index)
            if any(_may_name(given, leaf) for leaf in known):
                continue
            if any(_may_name(given, leaf) for leaf in declared):
                message, hint = f"a change of `{given}` reruns nothing anyway", "leave it out"
            else:
                message = f"`{given}` names no leaf of this stage"
                hint = did_you_mean(given, known, "leaves") or "the reference in docs/spec.md lists them"
            yield Diagnostic(f"{draft.address(path)}: {message}", draft.locate(path), hint)


def _may_name(given: str, declared: str) -> bool:
    """Whether a path, in which ``*`` stands for any step, can be that of a declared leaf."""
    steps, wanted = given.split("."), declared.split(".")
    return len(steps) == len(wanted) and all(
        step == "*" or step == want or (want == "*" and step.isdecimal())
        for step, want in zip(steps, wanted, strict=True)
    )
