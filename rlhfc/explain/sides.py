"""What is compared: a spec, or what a run left, stage by stage, brought into one form."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Literal, Protocol

from rlhfc.compile.impacts import dotted, full, leaves
from rlhfc.explain.components import flat
from rlhfc.explain.from_ledger import Place, stages_after
from rlhfc.kind import InputModel
from rlhfc.spec.inputs import inputs_of
from rlhfc.spec.model import PipelineSpec, StageSpec
from rlhfc.spec.origins import origins_of
from rlhfc.store.digest import TreeEntry
from rlhfc.store.ledger_lines import Entry
from rlhfc.store.records import ActionResult

PARAMS, LIBRARIES = "params.", "libraries."
Values = Mapping[str, Any]


@dataclass(frozen=True)
class StageSide:
    """One stage.

    Attributes:
        settings: dotted path to value, defaults included.
        labels: those that only people read; a run does not know them.
        inputs: address to what it is: a reference or source in a spec, a digest in a run.
        places: where settings and inputs are written.
        code: file to digest; of a run only, as is the rest.
        libraries: full versions.
        outputs: port to tree digest, of a result that is whole.
        sizes: port to bytes.
        summary: the stage's own figures.
    """

    kind: str
    settings: Values
    labels: Values = field(default_factory=dict)
    inputs: Values = field(default_factory=dict)
    places: Mapping[str, str] = field(default_factory=dict)
    code: Values = field(default_factory=dict)
    libraries: Values = field(default_factory=dict)
    outputs: Mapping[str, str] = field(default_factory=dict)
    sizes: Mapping[str, int] = field(default_factory=dict)
    summary: Values = field(default_factory=dict)


@dataclass(frozen=True)
class Side:
    """A spec or a run.

    Attributes:
        name: how the user called it; a run in full.
        machine: what a run ran on: versions of Python and rlhfc.
        commit: of a run's spec, as in the ledger.
    """

    name: str
    of: Literal["spec", "run"]
    stages: Mapping[str, StageSide]
    machine: Values = field(default_factory=dict)
    commit: Mapping[str, Any] | None = None


class Kept(Protocol):
    """What is asked of a store."""

    def lookup(self, key: str) -> ActionResult | None:
        """Result of an action, when all of it is there."""

    def key_document(self, key: str) -> Mapping[str, Any] | None:
        """What was kept beside a key."""

    def tree(self, digest: str) -> list[TreeEntry]:
        """Files of a tree."""


def spec_side(name: str, spec: PipelineSpec) -> Side:
    """A valid spec."""
    return Side(name, "spec", {stage.name: _from_spec(stage, spec) for stage in spec.stages.values()})


def _from_spec(stage: StageSpec, spec: PipelineSpec) -> StageSide:
    inputs = inputs_of(stage.params)
    found: dict[bool, dict[str, Any]] = {True: {}, False: {}}
    for leaf in leaves(stage.params):
        if leaf.address not in inputs:
            found[leaf.impact == "label"] |= flat(full(leaf), dotted(leaf.path))
    return StageSide(
        kind=stage.loaded.kind.name,
        settings=found[False],
        labels=found[True],
        inputs={address: input_words(given) for address, given in inputs.items()},
        places=origins_of(stage, spec.path.parent),
    )


def input_words(given: InputModel) -> str:
    """Where an input comes from: ``sft.model``, ``path:rows.jsonl``, ``hub:owner/name@main``."""
    if given.ref is not None:
        return given.ref
    source = f"path:{given.path}" if given.path is not None else f"hub:{given.hub}"
    revision = f"@{given.revision}" if given.revision else ""
    return f"{source}{revision}{'/' + given.file if given.file else ''}"


def run_side(run: str, entries: Sequence[Entry], store: Kept) -> Side:
    """A run of the ledger, as it left its pipeline."""
    began = next((e for e in entries if e["event"] == "run" and e["run"] == run), {})
    stages = {name: _from_run(place, store) for name, place in stages_after(entries, run).items()}
    machine = {name: value for name, value in began.items() if name in ("python", "rlhfc")}
    return Side(run, "run", stages, machine, began.get("commit"))


def _from_run(place: Place, store: Kept) -> StageSide:
    kept = store.key_document(place.key) if place.key is not None else None
    if kept is None or place.key is None or "document" not in kept:
        return StageSide(place.kind, {})
    document, recorded = kept["document"], kept.get("recorded", {})
    inputs = document["inputs"]
    settings = dict(flat(document["config"]["params"]))
    for path, value in recorded.items():
        if path.startswith(PARAMS):
            settings |= flat(value, path.removeprefix(PARAMS))
    origins = kept.get("origins", {})
    result = store.lookup(place.key)
    outputs = result.outputs if result is not None else {}
    return StageSide(
        kind=document["kind"],
        settings={path: value for path, value in settings.items() if path not in inputs},
        inputs=inputs,
        places={path.removeprefix(PARAMS): o for path, o in origins.items() if path.startswith(PARAMS)},
        code=document["code"],
        libraries={p.removeprefix(LIBRARIES): v for p, v in recorded.items() if p.startswith(LIBRARIES)},
        outputs=outputs,
        sizes={port: sum(file.size for file in store.tree(tree)) for port, tree in outputs.items()},
        summary=result.summary if result is not None else {},
    )
