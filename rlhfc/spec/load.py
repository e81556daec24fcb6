"""From the text of a spec to a pipeline that is right in itself, or to everything wrong with it."""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping, Sequence
from contextlib import suppress
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any

from pydantic import ValidationError, create_model

from rlhfc.compile.action import LoadedKind
from rlhfc.compile.kinds import load_kinds
from rlhfc.errors import Diagnostic, Mark, UserError, did_you_mean, listing
from rlhfc.kind import SpecModel, StageParams
from rlhfc.spec.compose import Reader, compose
from rlhfc.spec.engines import engine_faults
from rlhfc.spec.inputs import walk_inputs
from rlhfc.spec.messages import Subject, explain, shown
from rlhfc.spec.model import STAGE_NAME, Draft, PipelineSpec, SpecFile, StageSpec
from rlhfc.spec.nodes import Node
from rlhfc.spec.overrides import OPTION, folder_of, override
from rlhfc.spec.ports import connect, cycle_faults, in_order, port_faults
from rlhfc.spec.references import fill
from rlhfc.spec.variables import WITHIN_STAGES, Scope, read_scope

__all__ = ["PipelineSpec", "StageSpec", "load_pipeline"]


def load_pipeline(
    path: Path,
    overrides: Sequence[str] = (),
    overlays: Sequence[Path] = (),
    read: Reader = Path.read_bytes,
) -> PipelineSpec:
    """Load, check and connect a spec.

    Args:
        path: the YAML file.
        overrides: ``stage.field.sub=value`` each, the value in YAML, later ones over earlier ones.
        overlays: YAML files that are laid over the spec, later ones over earlier ones.
        read: content of a file, for a spec that is not in the working tree.

    Raises:
        UserError: with every mistake that could be found, in the order of the file.
    """
    faults: list[Diagnostic] = []
    composed = compose(path, overlays, read, faults)
    root = override(composed.root, overrides, faults)
    scope = read_scope(root, (), {path, *overlays, OPTION})
    root = _with_names(root, scope)
    top = _top_level(root, faults)
    drafts = _drafts(root, scope, _kinds(root, path, faults), faults)
    graph = connect(drafts)
    faults.extend(port_faults(drafts))
    faults.extend(cycle_faults(drafts, graph))
    faults.extend(engine_faults(drafts))
    faults = [*scope.faults, *(fault for fault in faults if fault.mark not in scope.broken)]
    if faults or top is None:
        raise UserError(sorted(dict.fromkeys(faults), key=partial(_position, path)))
    ordered = in_order(graph)
    stages = {name: stage for name in ordered if (stage := _stage(drafts[name])) is not None}
    name = top.name or path.stem
    return PipelineSpec(name, path.absolute(), stages, graph, top.description, composed.files)


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


def _kinds(root: Node, spec: Path, faults: list[Diagnostic]) -> Mapping[str, LoadedKind]:
    """Registry of the built-in kinds and of those user folders that are right."""
    listed = root.child("kinds")
    kinds, folders = load_kinds([]), list[Path]()
    for node in (listed.items or ()) if listed else ():
        if not isinstance(node.data, str):
            continue
        folder = folder_of(node.key or node.mark, spec) / node.data
        try:
            kinds = load_kinds([*folders, folder])
            folders.append(folder)
        except UserError as error:
            faults.extend(replace(fault, mark=fault.mark or node.mark) for fault in error.diagnostics)
    return kinds


def _drafts(
    root: Node, scope: Scope, kinds: Mapping[str, LoadedKind], faults: list[Diagnostic]
) -> dict[str, Draft]:
    listed = root.child("stages")
    stages = {
        name: node
        for name, node in ((listed.mapping or {}) if listed else {}).items()
        if node.mapping is not None
    }
    values = scope.under()
    loaded = {name: _kind_of(name, node, values, kinds, faults) for name, node in stages.items()}
    defaults = _defaults(root, loaded.values(), faults)
    ports = {name: tuple(kind.kind.outputs) for name, kind in loaded.items() if kind is not None}
    return {
        name: _draft(name, node, loaded[name], defaults, values, ports, faults)
        for name, node in stages.items()
    }


def _kind_of(
    name: str,
    node: Node,
    values: Mapping[str, Node],
    kinds: Mapping[str, LoadedKind],
    faults: list[Diagnostic],
) -> LoadedKind | None:
    """Kind of a stage, or None after saying why there is none."""
    if not re.match(STAGE_NAME, name):
        rule = "a letter, then letters, digits, `_` and `-`"
        faults.append(Diagnostic(f"`{name}` cannot be the name of a stage", node.place(), rule))
    named = node.child("kind")
    if named is None:
        faults.append(
            Diagnostic(f"{name}: missing field `kind`", node.place(), f"kinds: {listing(list(kinds))}")
        )
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
    return defaults


def _draft(
    name: str,
    node: Node,
    loaded: LoadedKind | None,
    defaults: Mapping[str, Node],
    values_of: Mapping[str, Node],
    ports: dict[str, tuple[str, ...]],
    faults: list[Diagnostic],
) -> Draft:
    own = {field: value for field, value in (node.mapping or {}).items() if field != "kind"}
    if loaded is None:
        return Draft(name, replace(node, data=own), None, None, {})
    model = loaded.kind.params
    filled = {
        field: value for field, value in defaults.items() if field in model.model_fields and field not in own
    }
    whole = fill(replace(node, data={**filled, **own}), values_of)
    values = whole.plain()
    defaulted = frozenset(filled)
    try:
        params, complete = model.model_validate(values), True
    except ValidationError as error:
        subject = Subject(model, whole, name, f"kind `{loaded.kind.name}`", ports, defaulted)
        faults.extend(explain(error, subject))
        params, complete = _right_fields(model, values), False
    return Draft(name, whole, loaded, params, dict(walk_inputs(params)), complete, defaulted)


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
    return StageSpec(draft.name, draft.loaded, draft.params, draft.locate(()), draft.node)


def _position(spec: Path, fault: Diagnostic) -> tuple[bool, bool, str, int, int]:
    """Overrides come first, as found, then the spec from top to bottom, then other files."""
    mark = fault.mark or Mark(spec, 0, 0)
    column = mark.column if mark.line else 0
    return mark.line > 0, mark.file != spec, str(mark.file), mark.line, column
