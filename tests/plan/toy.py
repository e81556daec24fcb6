"""A store made of mappings, and a pipeline of three small stages: split → fit → score."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

from rlhfc.compile.action import Action, LoadedKind, Pipeline, ResolvedSource, UpstreamOutput
from rlhfc.compile.keys import KeyDocument, Undecided
from rlhfc.kind import Input, Kind, StageParams, numeric, runtime, semantic
from rlhfc.plan.decide import decide
from rlhfc.plan.describe import plan_document
from rlhfc.plan.document import PlanDocument
from rlhfc.plan.estimate import estimates
from rlhfc.plan.planner import Plan, make_plan
from rlhfc.store.ledger_lines import Made
from rlhfc.store.records import ActionResult

SPEC = """\
schema: 1
kinds: [kinds]
stages:
  first: {kind: toy, source: {path: rows.jsonl}}
  second: {kind: toy, source: first.out}
"""
KIND = """\
from rlhfc.kind import Input, Kind, StageParams, semantic

class ToyParams(StageParams):
    source: Input = semantic()
    rate: float = semantic(0.1)

KIND = Kind("toy", 1, ToyParams, {"source": "data"}, {"out": "data"}, libraries=("no-such-library",))
"""
TEMPLATE = "{{ launch.python }}\n-m\n{{ module }}\n--config\n{{ config }}\n"


class ToyParams(StageParams):
    """Fields that the three kinds share."""

    source: Input = semantic()
    rate: float = semantic(0.1)
    buckets: int = numeric(4)
    every: int = runtime(7)


@dataclass
class FakeStore:
    """Holds what it is told; ``asked`` lists the keys that were looked up."""

    results: dict[str, ActionResult] = field(default_factory=dict)
    kept: dict[str, Mapping[str, Any]] = field(default_factory=dict)
    last: dict[str, str] = field(default_factory=dict)
    earlier: dict[str, list[str]] = field(default_factory=dict)
    checkpoints: dict[str, tuple[int, int]] = field(default_factory=dict)
    spent: dict[str, float] = field(default_factory=dict)
    asked: list[str] = field(default_factory=list)

    def lookup(self, key: str) -> ActionResult | None:
        """See ``StoreReader``."""
        self.asked.append(key)
        return self.results.get(key)

    def key_document(self, key: str) -> Mapping[str, Any] | None:
        """See ``StoreReader``."""
        return self.kept.get(key)

    def last_key(self, pipeline: str, stage: str) -> str | None:
        """See ``StoreReader``."""
        return self.last.get(f"{pipeline}/{stage}")

    def earlier_keys(self, pipeline: str, stage: str) -> list[str]:
        """See ``StoreReader``."""
        return list(dict.fromkeys(reversed(self.earlier.get(f"{pipeline}/{stage}", []))))

    def note(self, place: str, key: str) -> None:
        """A stage has been brought to a result; ``place`` is its pipeline and name."""
        if place in self.last:
            self.earlier.setdefault(place, []).append(self.last[place])
        self.last[place] = key

    def keys_from(self, start: str) -> list[str]:
        """See ``StoreReader``."""
        return sorted(key for key in self.results if key.startswith(start))

    def made(self) -> list[Made]:
        """See ``History``."""
        return [Made(*place.split("/"), key) for place, key in reversed(self.last.items())]

    def record(self, key: str) -> ActionResult | None:
        """See ``History``."""
        return self.results.get(key)

    def checkpoint(self, stage: str, key: str) -> tuple[int, int] | None:
        """See ``StoreReader``."""
        return self.checkpoints.get(key)


@dataclass
class Toy:
    """The pipeline, a store, and what is installed; edits are made on it as a user would make them."""

    actions: dict[str, Action]
    store: FakeStore = field(default_factory=FakeStore)
    installed: dict[str, str] = field(default_factory=lambda: {"torch": "2.13.0"})

    def edit(self, stage: str, **fields: Any) -> None:
        """Change parameters of a stage."""
        action = self.actions[stage]
        self.change(stage, params=action.params.model_copy(update=fields))

    def change(self, stage: str, **parts: Any) -> None:
        """Change parts of an action."""
        self.actions[stage] = replace(self.actions[stage], **parts)

    def pipeline(self) -> Pipeline:
        """The pipeline as it is now."""
        return Pipeline("toy", Path("/specs/toy.yaml"), dict(self.actions))

    def plan(self, *forced: str) -> Plan:
        """Plan it."""
        return make_plan(self.pipeline(), self.store, self.installed.get, forced)

    def document(self, *forced: str, gpus: int = 0) -> PlanDocument:
        """Plan it, estimate what runs, and describe that."""
        plan = self.plan(*forced)
        known = estimates(plan, self.store, lambda stage, key: self.store.spent.get(key, 0.0))
        return plan_document(plan, ".rlhfc", gpus, known)

    def run(self, made: str = "1") -> None:
        """Act as a run that does what the plan says; every output holds ``made``, under its stage's name."""
        outputs: dict[tuple[str, str], str] = {}
        for name, action in self.actions.items():
            planned = decide(action, outputs, self.store, self.installed.get)
            result = planned.result or self._publish(name, planned.known, made)
            self.store.note(f"toy/{name}", result.key)
            outputs[(name, "out")] = result.outputs["out"]

    def _publish(self, name: str, known: KeyDocument | Undecided | None, made: str) -> ActionResult:
        assert isinstance(known, KeyDocument)
        self.store.kept[known.key] = known.stored
        self.store.results[known.key] = result = ActionResult(
            known.key,
            {"out": f"b3:{name}{made}"},
            metrics=None,
            summary={},
            seconds=250.4,
            attempts=1,
            finished="2026-03-01T10:00:00+00:00",
            size=13_500_000,
        )
        return result


def make_toy(tmp_path: Path) -> Toy:
    """Three stages that never ran."""
    folder = tmp_path / "toy"
    folder.mkdir()
    (folder / "launch.argv.j2").write_text(TEMPLATE)

    def action(name: str, binding: UpstreamOutput | ResolvedSource, **kind: Any) -> Action:
        declared = Kind(name, 1, ToyParams, {"source": "data"}, {"out": "data"}, **kind)
        params = ToyParams(source={"path": "rows.jsonl"})
        loaded = LoadedKind(declared, folder, f"{name}.main", tmp_path)
        code = {f"{name}/main.py": "b3:11"}
        return Action(
            "toy", name, loaded, params, {"source": binding}, None, "cpu", code=code, file=Path("toy.yaml")
        )

    rows = ResolvedSource("path:rows.jsonl", "b3:rows")
    fit = action("fit", UpstreamOutput("split", "out"), libraries=("torch",), resumable=True)
    score = action("score", UpstreamOutput("fit", "out"))
    return Toy({"split": action("split", rows), "fit": fit, "score": score})
