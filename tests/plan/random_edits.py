"""Random edits of a spec, its files, its code and its libraries, checked against a model of the truth.

The laws: what is cached is what an uncached run would make; every verdict has its cause; an edit that
cannot reach a result moves nothing, and one that can moves its stage and nothing but what follows it;
after a run there is nothing to do. ``python tests/plan/random_edits.py 100000`` makes that many edits.
"""

from __future__ import annotations

import hashlib
import json
import random
import sys
import tempfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import networkx
import yaml
from toy import FakeStore

from rlhfc.compile.digests import CachedDigester
from rlhfc.compile.keys import KeyDocument
from rlhfc.compile.mirrors import Mirrors
from rlhfc.compile.pipeline import compile_pipeline
from rlhfc.compile.reasons import PENDING, ReasonCode
from rlhfc.compile.world import World
from rlhfc.plan.decide import decide
from rlhfc.plan.planner import Plan, Verdict, make_plan
from rlhfc.spec.load import load_pipeline
from rlhfc.store.records import ActionResult

STAGES = ("a", "b", "c", "d", "e")
KIND = """\
from rlhfc.kind import Input, Kind, SpecModel, StageParams, label, numeric, runtime, semantic

class Part(SpecModel):
    weight: int = semantic(1)
    note: str = label("")

class MixParams(StageParams):
    left: Input = semantic()
    right: Input | None = semantic(None)
    rate: float = semantic(0.5)
    parts: list[Part] = semantic(default_factory=list)
    flat: bool = semantic(False)
    buckets: int = numeric(4)
    every: int = runtime(7)

KIND = Kind("mix", 1, MixParams, {"left": "data", "right": "data"}, {"out": "data"}, libraries=("torch",))
"""
COSMETIC: dict[str, Callable[[random.Random], Any]] = {
    "buckets": lambda dice: dice.randrange(1, 9),
    "ranks": lambda dice: dice.randrange(1, 9),
    "every": lambda dice: dice.randrange(1, 9),
    "log_every": lambda dice: dice.randrange(1, 9),
    "description": lambda dice: dice.choice(["", "words", "é"]),
}
SEMANTIC: dict[str, Callable[[random.Random], Any]] = {
    "rate": lambda dice: dice.choice([0.5, 1.0, 1, 0.0, -0.0, 1e-5, 0.1 + 0.2, 0.3]),
    "seed": lambda dice: dice.randrange(3),
    "flat": lambda dice: dice.random() < 0.5,
    "parts": lambda dice: [{"weight": dice.randrange(3)} for _ in range(dice.randrange(3))],
}
DEFAULTS: dict[str, Any] = {"rate": 0.5, "seed": 1234, "flat": False, "parts": []}


def digest(*parts: Any) -> str:
    """Of anything that JSON can tell apart."""
    return f"b3:{hashlib.sha256(json.dumps(parts).encode()).hexdigest()}"


class Story:
    """A user's folder, a store, and what both should come to."""

    def __init__(self, folder: Path, dice: random.Random) -> None:
        self.folder, self.dice, self.store = folder, dice, FakeStore()
        self.torch = [2, 13, 0]
        self.code = 0
        (folder / "kinds/mix").mkdir(parents=True)
        (folder / "kinds/mix/kind.py").write_text(KIND)
        (folder / "kinds/mix/launch.argv.j2").write_text(
            "run\n{{ config }}\n--buckets={{ params.buckets }}\n"
        )
        (folder / "kinds/mix/main.py").write_text("import helper\n")
        for name in ("x", "y"):
            (folder / f"{name}.jsonl").write_text("{}\n")
        self.stages: dict[str, dict[str, Any]] = {}
        for index, name in enumerate(STAGES):
            self.stages[name] = {"left": self._origin(index)}
        self._write_code("")
        self.plan = self.planned()

    def planned(self) -> Plan:
        """The plan for the folder as it is; the spec's layout is another each time."""
        spec = self.folder / "spec.yaml"
        stages = [{"kind": "mix", **fields} for fields in self.stages.values()]
        named = list(zip(self.stages, map(self._shuffled, stages), strict=True))
        self.dice.shuffle(named)
        content = {"schema": 1, "kinds": ["kinds"], "stages": dict(named)}
        text = yaml.dump(content, Dumper=yaml.CSafeDumper, sort_keys=False)
        spec.write_text(text.replace("\n", self.dice.choice(["\n", "\r\n", "  # why\n"])), newline="")
        self.world = World(Mirrors(), CachedDigester(), 0, self._version, self.folder)
        self.pipeline = compile_pipeline(load_pipeline(spec), self.world)
        return make_plan(self.pipeline, self.store, self._version)

    def step(self) -> None:
        """One edit, checked; now and then a run before it."""
        if self.dice.random() < 0.3:
            self.run(self.dice.choice([1, 2, len(STAGES)]))
        kind, moved = self.dice.choice([self.cosmetic, self.cosmetic, self.semantic, self.semantic, self.file,
                                        self.rewire, self.upgrade, self.recode, self.lose])()  # fmt: skip
        before, self.plan = self.plan, self.planned()
        self._check(kind, moved, before)

    def cosmetic(self) -> tuple[str, set[str]]:
        """A leaf that does not decide, or nothing but the layout."""
        stage, field = self.dice.choice(STAGES), self.dice.choice([*COSMETIC, "note", ""])
        parts = self.stages[stage].get("parts", [])
        if field == "note" and parts:
            parts[0]["note"] = self.dice.choice(["", "words"])
        elif field in COSMETIC:
            self.stages[stage][field] = COSMETIC[field](self.dice)
        return f"cosmetic {stage}.{field}", set()

    def semantic(self) -> tuple[str, set[str]]:
        """A leaf that decides, perhaps with the value that it had."""
        stage, field = self.dice.choice(STAGES), self.dice.choice(list(SEMANTIC))
        old, new = self._own(stage), SEMANTIC[field](self.dice)
        self.stages[stage][field] = new
        return f"semantic {stage}.{field}", {stage} if self._own(stage) != old else set()

    def file(self) -> tuple[str, set[str]]:
        """What a source holds."""
        name = self.dice.choice("xy")
        path, rows = self.folder / f"{name}.jsonl", "{}\n" * self.dice.randrange(1, 4)
        same = path.read_text() == rows
        path.write_text(rows)
        readers = {stage for stage in STAGES if path.name in json.dumps(self.stages[stage])}
        return f"file {name}", set() if same else readers

    def rewire(self) -> tuple[str, set[str]]:
        """What a stage reads."""
        index = self.dice.randrange(len(STAGES))
        stage, port = STAGES[index], self.dice.choice(["left", "right"])
        self.stages[stage][port] = self._origin(index)
        return f"rewire {stage}", {stage}

    def upgrade(self) -> tuple[str, set[str]]:
        """Another version of a library: a patch decides nothing."""
        level = self.dice.choice([1, 2])
        self.torch[level] = self.dice.randrange(13, 15)
        return "upgrade", set(STAGES) if level == 1 else set()

    def recode(self) -> tuple[str, set[str]]:
        """A comment, or other code."""
        comment = self.dice.random() < 0.5
        if not comment:
            self.code = self.dice.randrange(3)
        self._write_code(self.dice.choice(["# one", "# two", '"""Words."""']))
        return "recode", set() if comment else set(STAGES)

    def lose(self) -> tuple[str, set[str]]:
        """A result is gone from the store."""
        if not self.store.results:
            return "lose nothing", set()
        key = self.dice.choice(list(self.store.results))
        del self.store.results[key]
        return "lose", {name for name, planned in self.plan.stages.items() if planned.key == key}

    def run(self, stages: int) -> None:
        """Do what the plan says of the first so many stages; what is made is the truth."""
        outputs: dict[tuple[str, str], str] = {}
        for name, action in list(self.pipeline.actions.items())[:stages]:
            planned = decide(action, outputs, self.store, self._version)
            result = planned.result
            if result is None:
                assert isinstance(planned.known, KeyDocument)
                made = {"out": self.truth(name)}
                result = ActionResult(planned.known.key, made, None, {}, 1.0, 1, "2026-03-01T10:00:00Z", 1)
                self.store.results[result.key] = result
                self.store.kept[result.key] = planned.known.stored
            self.store.last[f"spec/{name}"] = result.key
            outputs[(name, "out")] = result.outputs["out"]
        self.plan = self.planned()
        assert self.plan.nothing_to_do or stages < len(STAGES)

    def truth(self, stage: str) -> str:
        """What an uncached run of a stage would make."""
        fields = self.stages[stage]
        read = [self._content(fields.get(port)) for port in ("left", "right")]
        own = self._own(stage)
        if fields.get("flat"):  # other settings, same bytes: what follows is cached
            return digest("flat", read)
        return digest(own, read, self.code, self.torch[1])

    def _content(self, origin: Any) -> str | None:
        if origin is None:
            return None
        if isinstance(origin, dict):
            return (self.folder / origin["path"]).read_text()
        return self.truth(origin.partition(".")[0])

    def _own(self, stage: str) -> str:
        """The settings that decide, as the stage is given them."""
        given = {name: self.stages[stage].get(name, default) for name, default in DEFAULTS.items()}
        return repr(
            [float(given["rate"]), given["seed"], given["flat"], [part["weight"] for part in given["parts"]]]
        )

    def _origin(self, index: int) -> Any:
        """A source, or a stage before this one."""
        before = [f"{name}.out" for name in STAGES[:index]]
        return self.dice.choice([{"path": "x.jsonl"}, {"path": "y.jsonl"}, *before * 2])

    def _write_code(self, comment: str) -> None:
        text = f"{comment}\nversion = {self.code}\n"
        (self.folder / "kinds/helper.py").write_text(text)

    def _version(self, name: str) -> str | None:
        return ".".join(map(str, self.torch)) if name == "torch" else None

    def _shuffled(self, fields: dict[str, Any]) -> dict[str, Any]:
        items = list(fields.items())
        self.dice.shuffle(items)
        return dict(items)

    def _check(self, edit: str, moved: set[str], before: Plan) -> None:
        graph = networkx.DiGraph((above, name) for name in STAGES for above in self.pipeline.upstream(name))
        graph.add_nodes_from(STAGES)
        reached = moved.union(*(networkx.descendants(graph, name) for name in moved))
        for name, planned in self.plan.stages.items():
            where = f"{edit}: {name} {planned.verdict} {planned.reasons}"
            own = [reason for reason in planned.reasons if reason.code not in PENDING]
            if any(reason.code is ReasonCode.RESULT_MISSING for reason in planned.reasons):
                assert self.store.last[f"spec/{name}"] not in self.store.results, f"not lost: {where}"
            if planned.verdict is Verdict.CACHED:
                assert planned.result is not None, where
                assert {"out": self.truth(name)} == planned.result.outputs, f"false hit: {where}"
                assert not planned.reasons, where
            elif planned.verdict is Verdict.UNDECIDED:
                assert planned.key is None, where
                assert planned.reasons, f"unexplained: {where}"
                assert not own, where
            else:
                assert own, f"unexplained: {where}"
            if name not in reached:
                old = before.stages[name]
                assert (old.verdict, old.key) == (planned.verdict, planned.key), f"moved: {where}"


def play(seed: int, edits: int) -> None:
    """One story of so many edits.

    Raises:
        AssertionError: a law is broken; the seed tells the story again.
    """
    with tempfile.TemporaryDirectory() as folder:
        story = Story(Path(folder), random.Random(seed))
        for _ in range(edits):
            story.step()


if __name__ == "__main__":
    wanted, length = int(sys.argv[1]), 50
    for number in range(-(-wanted // length)):
        try:
            play(number, length)
        except AssertionError:
            print(f"seed {number}", file=sys.stderr)
            raise
    print(f"{wanted} edits: no false hit, no unexplained verdict")
