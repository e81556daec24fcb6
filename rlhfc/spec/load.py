"""From the text of a spec to a pipeline that is right in itself, or to everything wrong with it."""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import suppress
from dataclasses import replace
from functools import partial
from itertools import chain
from pathlib import Path
from typing import Any, get_args

from pydantic import ValidationError, create_model

from rlhfc.compile.action import LoadedKind, stage_of
from rlhfc.compile.kinds import KindRegistry, UntrustedKindError, load_kinds
from rlhfc.errors import OPTION, Diagnostic, Mark, UserError, did_you_mean, listing, nearest
from rlhfc.kind import SpecModel, StageParams
from rlhfc.spec.compose import compose
from rlhfc.spec.engines import engine_faults
from rlhfc.spec.environment import environment_faults, misplaced_secrets
from rlhfc.spec.inputs import walk_inputs
from rlhfc.spec.lifecycle import ignore_faults, library_faults, library_policy
from rlhfc.spec.matrix import axis_names, read_matrix
from rlhfc.spec.messages import Subject, explain, shown
from rlhfc.spec.model import STAGE_NAME, Draft, PipelineSpec, References, SpecFile, StageSpec
from rlhfc.spec.nodes import Node
from rlhfc.spec.overrides import folder_of, override
from rlhfc.spec.parse import Identity, Read
from rlhfc.spec.ports import connect, in_order, port_faults
from rlhfc.spec.references import environment_names, fill
from rlhfc.spec.variables import WITHIN_STAGES, Scope, read_scope, unused_names
from rlhfc.spec.variants import RawStage, Variant, expand
from rlhfc.trust import Trust, read_trust

NUMERICS = get_args(SpecFile.model_fields["numerics"].annotation)

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
    raw = _raw_stages(root, scope, _kinds(root, path, trust, faults), faults)
    matrix = read_matrix(root.child("matrix"), faults)
    scope.withdraw(matrix.axes, [stage.node for stage in raw.values()])
    drafts = _drafts(expand(raw, matrix, scope, faults), faults)
    references = connect(drafts)
    faults = list(_all_faults(faults, scope, drafts, references, trust))
    faults.extend(library_faults(root, drafts))
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


def _kinds(root: Node, spec: Path, trust: Trust, faults: list[Diagnostic]) -> KindRegistry:
    """Registry of the built-in kinds and of those user folders that are right; none is imported."""
    listed = root.child("kinds")
    kinds, folders = load_kinds([], trust), list[Path]()
    for node in (listed.items or ()) if listed else ():
        if not isinstance(node.data, str):
            continue
        folder = folder_of(node.key or node.mark, spec) / node.data
        try:
            known, kinds = kinds.faults, load_kinds([*folders, folder], trust)
            folders.append(folder)
            faults.extend(replace(fault, mark=node.mark) for fault in kinds.faults if fault not in known)
        except UserError as error:
            faults.extend(replace(fault, mark=fault.mark or node.mark) for fault in error.diagnostics)
    return kinds


def _raw_stages(
    root: Node, scope: Scope, kinds: Mapping[str, LoadedKind], faults: list[Diagnostic]
) -> dict[str, RawStage]:
    """Stages with their defaults, before the matrix."""
    listed = root.child("stages")
    stages = {
        name: node
        for name, node in ((listed.mapping or {}) if listed else {}).items()
        if node.mapping is not None
    }
    values = scope.under()
    loaded = {name: _kind_of(name, stages, values, kinds, faults) for name in stages}
    defaults = _defaults(root, loaded.values(), faults)
    return {name: _raw_stage(node, loaded[name], defaults) for name, node in stages.items()}


def _raw_stage(node: Node, loaded: LoadedKind | None, defaults: Mapping[str, Node]) -> RawStage:
    own = {field: value for field, value in (node.mapping or {}).items() if field != "kind"}
    fields = loaded.kind.params.model_fields if loaded is not None else {}
    filled = {field: value for field, value in defaults.items() if field in fields and field not in own}
    return RawStage(replace(node, data={**filled, **own}), loaded, frozenset(filled))


def _drafts(variants: Mapping[str, Variant], faults: list[Diagnostic]) -> dict[str, Draft]:
    ports = {
        stage_of(name): tuple(variant.raw.loaded.kind.outputs)
        for name, variant in variants.items()
        if variant.raw.loaded is not None
    }
    return {name: _draft(name, variant, ports, faults) for name, variant in variants.items()}


def _kind_of(
    name: str,
    stages: Mapping[str, Node],
    values: Mapping[str, Node],
    kinds: Mapping[str, LoadedKind],
    faults: list[Diagnostic],
) -> LoadedKind | None:
    """Kind of a stage, or None after saying why there is none."""
    node = stages[name]
    if not re.fullmatch(STAGE_NAME, name):
        rule = "a letter, then letters, digits, `_` and `-`"
        faults.append(Diagnostic(f"`{name}` cannot be the name of a stage", node.place(), rule))
    named = node.child("kind")
    if named is None:
        close = nearest(name, stages.keys() - {name})
        known = f"kinds: {listing(list(kinds))}"
        known += f"; or did you mean stage `{close}`?" if close is not None else ""
        faults.append(Diagnostic(f"{name}: missing field `kind`", node.place(), known))
        return None
    named = fill(named, values)
    if named.data is None:
        message = f"{name}.kind: expected the name of a kind, got {shown(named)}"
        faults.append(Diagnostic(message, named.place(), f"kinds: {listing(list(kinds))}"))
        return None
    if named.text not in kinds:
        hint = did_you_mean(named.text, kinds, "kinds")
        faults.append(Diagnostic(f"{name}.kind: there is no kind {shown(named)}", named.place(), hint))
        return None
    try:
        return kinds[named.text]
    except UntrustedKindError:
        return None
    except UserError as error:
        faults.extend(error.diagnostics)
        return None


def _defaults(
    root: Node, loaded: Iterable[LoadedKind | None], faults: list[Diagnostic]
) -> Mapping[str, Node]:
    """The spec's defaults; a name that no kind of the pipeline has is a mistake."""
    node = root.child("defaults")
    defaults = (node.mapping or {}) if node else {}
    kinds = list(loaded)
    fields = {field: None for kind in kinds if kind for field in kind.kind.params.model_fields}
    # With a kind unknown, nobody can tell that a name is wrong.
    for name, value in defaults.items() if None not in kinds else ():
        if name not in fields:
            hint = did_you_mean(name, fields, "fields")
            faults.append(Diagnostic(f"defaults: no stage has a field `{name}`", value.key, hint))
    numerics = root.child("numerics")
    return {"numerics": numerics, **defaults} if numerics and numerics.text in NUMERICS else defaults


def _draft(
    name: str, variant: Variant, ports: Mapping[str, tuple[str, ...]], faults: list[Diagnostic]
) -> Draft:
    raw, node = variant.raw, variant.node
    if raw.loaded is None:
        return Draft(name, node, None, None, {})
    model = raw.loaded.kind.params
    values = node.plain()
    try:
        params, complete = model.model_validate(values), True
    except ValidationError as error:
        kind = f"kind `{raw.loaded.kind.name}`"
        faults.extend(explain(error, Subject(model, node, stage_of(name), kind, ports, raw.defaulted)))
        params, complete = _right_fields(model, values), False
    inputs = dict(walk_inputs(params))
    return Draft(name, node, raw.loaded, params, inputs, complete, raw.defaulted, variant.values)


def _right_fields(model: type[StageParams], values: dict[str, Any]) -> StageParams:
    """Parameters without those fields that are wrong by themselves, so that the rest is checked too."""
    right: dict[str, Any] = {}
    for name, value in values.items():
        info = model.model_fields.get(name)
        if info is None:
            continue
        field: Any = (info.annotation, info)
        alone = create_model("_Alone", __base__=SpecModel, **{name: field})
        with suppress(ValidationError):
            right[name] = getattr(alone.model_validate({name: value}), name)
    partial_params = model.model_construct(**right)
    for name in values.keys() - right.keys():
        # Not its default: that would be blamed on the user.
        partial_params.__dict__.pop(name, None)
    return partial_params


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
