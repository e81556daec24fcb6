"""From the text of a spec to a pipeline that is right in itself, or to everything wrong with it."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import replace
from functools import partial
from itertools import chain
from pathlib import Path

from pydantic import ValidationError

from rlhfc.errors import OPTION, Diagnostic, Mark, UserError
from rlhfc.spec.compose import compose
from rlhfc.spec.drafts import read_drafts
from rlhfc.spec.engines import engine_faults
from rlhfc.spec.environment import environment_faults, misplaced_secrets
from rlhfc.spec.lifecycle import ignore_faults, library_faults, library_policy
from rlhfc.spec.matrix import axis_names
from rlhfc.spec.messages import Subject, explain
from rlhfc.spec.model import Draft, PipelineSpec, References, SpecFile, StageSpec
from rlhfc.spec.nodes import Node
from rlhfc.spec.overrides import override
from rlhfc.spec.parse import Identity, Read
from rlhfc.spec.ports import connect, in_order, port_faults
from rlhfc.spec.references import environment_names, fill
from rlhfc.spec.variables import WITHIN_STAGES, Scope, read_scope, unused_names
from rlhfc.trust import Trust, read_trust

__all__ = ["PipelineSpec", "StageSpec", "load_pipeline"]


def load_pipeline(
    path: Path,
    overrides: Sequence[str] = (),
    overlays: Sequence[Path] = (),
    read: Read = Path.read_bytes,
    identity: Identity = Path.resolve,
    trust: Trust | None = None,
) -> PipelineSpec:
    """Load, check and connect a spec.

    Args:
        path: the YAML file.
        overrides: ``stage.field.sub=value`` each, the value in YAML, later ones over earlier ones.
        overlays: YAML files that are laid over the spec, later ones over earlier ones.
        read: gives the bytes of a spec file.
        identity: the same for all names of one file.
        trust: whose code may run; default what the user of this process trusts.

    Raises:
        UserError: with every mistake that could be found, in the order of the file.
    """
    trust = trust or read_trust()
    faults: list[Diagnostic] = []
    composed = compose(path, overlays, read, faults, identity)
    root = override(composed.root, overrides, faults)
    faults.extend(unused_names(root, composed.parts, {path, *overlays, OPTION}))
    scope = read_scope(root, axis_names(root))
    root = _with_names(root, scope)
    top = _top_level(root, faults)
    drafts = read_drafts(root, path, scope, trust, faults)
    references = connect(drafts)
    faults = list(_all_faults(faults, root, scope, drafts, references, trust))
    if faults or top is None:
        raise UserError(sorted(dict.fromkeys(faults), key=partial(_position, path)))
    stages = {name: stage for name in in_order(references) if (stage := _stage(drafts[name])) is not None}
    return PipelineSpec(
        name=top.name or path.stem,
        path=path.absolute(),
        stages=stages,
        references=references,
        description=top.description,
        libraries=library_policy(top),
        files=composed.files,
        secrets=frozenset(environment_names([*composed.parts, root])),
    )


def _all_faults(
    faults: list[Diagnostic],
    root: Node,
    scope: Scope,
    drafts: Mapping[str, Draft],
    references: References,
    trust: Trust,
) -> Iterator[Diagnostic]:
    """What was found before, and what is wrong between stages; one mistake for each broken reference."""
    misplaced = list(misplaced_secrets(drafts))
    broken = scope.broken.union(node.mark for node, _ in misplaced)
    between = (port_faults(drafts), _cycle_faults(drafts, references), engine_faults(drafts))
    for fault in chain(faults, *between, ignore_faults(drafts), environment_faults(drafts, trust)):
        if fault.mark not in broken:
            yield fault
    yield from scope.faults
    yield from (fault for _, fault in misplaced)
    yield from library_faults(root, drafts)


def _cycle_faults(drafts: Mapping[str, Draft], references: References) -> Iterator[Diagnostic]:
    if len(in_order(references)) < len(drafts):
        from rlhfc.spec.knots import cycle_faults

        yield from cycle_faults(drafts, references)


def _with_names(root: Node, scope: Scope) -> Node:
    """The spec with names replaced, but inside of stages, where they may differ between variants."""
    flat = scope.under()
    entries = {
        name: scope.opened(node) if name in (*WITHIN_STAGES, "vars") else fill(node, flat)
        for name, node in (root.mapping or {}).items()
    }
    stages = entries.get("stages")
    if stages is not None and stages.mapping is not None:
        opened = {name: scope.opened(stage) for name, stage in stages.mapping.items()}
        entries["stages"] = replace(stages, data=opened)
    return replace(root, data=entries) if root.mapping is not None else root


def _top_level(root: Node, faults: list[Diagnostic]) -> SpecFile | None:
    """The spec without the insides of its stages.

    Raises:
        UserError: the document is not a mapping, so that nothing else can be said of it.
    """
    if root.mapping is None:
        hint = "begin with `schema: 1` and `stages:`"
        raise UserError(Diagnostic("a spec is a mapping of `schema`, `stages` and so on", root.mark, hint))
    try:
        return SpecFile.model_validate(root.plain())
    except ValidationError as error:
        faults.extend(explain(error, Subject(SpecFile, root, "", "a spec")))
        return None


def _stage(draft: Draft) -> StageSpec | None:
    if draft.loaded is None or draft.params is None or not draft.complete:
        return None
    return StageSpec(
        name=draft.name,
        loaded=draft.loaded,
        params=draft.params,
        mark=draft.locate(()),
        node=draft.node,
        defaulted=draft.defaulted,
        variant=draft.variant,
    )


def _position(spec: Path, fault: Diagnostic) -> tuple[bool, bool, str, int, int]:
    """Overrides come first, as found, then the spec from top to bottom, then other files."""
    mark = fault.mark or Mark(spec, 0, 0)
    column = mark.column if mark.line else 0
    return mark.line > 0, mark.file != spec, str(mark.file), mark.line, column
