"""From stages as they are written to drafts: kinds, defaults, variants, and fields that are checked."""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping
from contextlib import suppress
from dataclasses import replace
from pathlib import Path
from typing import Any, get_args

from pydantic import ValidationError, create_model

from rlhfc.compile.action import LoadedKind, stage_of
from rlhfc.compile.kinds import KindRegistry, UntrustedKindError, load_kinds
from rlhfc.errors import Diagnostic, UserError, did_you_mean, listing, nearest
from rlhfc.kind import SpecModel, StageParams
from rlhfc.spec.inputs import walk_inputs
from rlhfc.spec.matrix import read_matrix
from rlhfc.spec.messages import Subject, explain, shown
from rlhfc.spec.model import STAGE_NAME, Draft, SpecFile
from rlhfc.spec.nodes import Node
from rlhfc.spec.overrides import folder_of
from rlhfc.spec.references import fill
from rlhfc.spec.variables import Scope
from rlhfc.spec.variants import RawStage, Variant, expand
from rlhfc.trust import Trust

NUMERICS = get_args(SpecFile.model_fields["numerics"].annotation)


def read_drafts(
    root: Node, spec: Path, scope: Scope, trust: Trust, faults: list[Diagnostic]
) -> dict[str, Draft]:
    """Every variant of every stage of the spec, checked as far as it is right."""
    raw = _raw_stages(root, scope, _kinds(root, spec, trust, faults), faults)
    matrix = read_matrix(root.child("matrix"), faults)
    scope.withdraw(matrix.axes, [stage.node for stage in raw.values()])
    return _checked(expand(raw, matrix, scope, faults), faults)


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


def _raw_stage(node: Node, loaded: LoadedKind | None, defaults: Mapping[str, Node]) -> RawStage:
    own = {field: value for field, value in (node.mapping or {}).items() if field != "kind"}
    fields = loaded.kind.params.model_fields if loaded is not None else {}
    filled = {field: value for field, value in defaults.items() if field in fields and field not in own}
    return RawStage(replace(node, data={**filled, **own}), loaded, frozenset(filled))


def _checked(variants: Mapping[str, Variant], faults: list[Diagnostic]) -> dict[str, Draft]:
    ports = {
        stage_of(name): tuple(variant.raw.loaded.kind.outputs)
        for name, variant in variants.items()
        if variant.raw.loaded is not None
    }
    return {name: _draft(name, variant, ports, faults) for name, variant in variants.items()}


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
