"""Random edits of specs, files, code and libraries, and whether the plan is right about each.

    python tests/plan/random_edits.py --edits 100000 --seed 1

Beside the planner stands a model that knows nothing of keys: it computes from values what each stage
would yield. After every edit it is checked that

* a stage that is cached has what it would yield now (no false hit);
* a stage whose whole meaning was run before, and whose inputs are cached, is cached (no false miss);
* every other stage says why, and what it says is true (no unexplained verdict).
"""

from __future__ import annotations

import hashlib
import os
import random
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from by_hand import try_edits
from toy import FakeStore

from rlhfc.compile.digests import CachedDigester
from rlhfc.compile.keys import KeyDocument, key_document
from rlhfc.compile.mirrors import Mirrors
from rlhfc.compile.pipeline import compile_pipeline
from rlhfc.compile.reasons import PENDING, Reason, ReasonCode
from rlhfc.compile.world import World
from rlhfc.plan.decide import EARLIER
from rlhfc.plan.planner import Plan, Verdict, make_plan
from rlhfc.plan.words import sentence
from rlhfc.spec.load import load_pipeline
from rlhfc.store.records import ActionResult

KIND = """\
from rlhfc.kind import Input, Kind, SpecModel, StageParams, numeric, runtime, semantic

class Nested(SpecModel):
    depth: int = semantic(1)
    width: int = numeric(1)

class Params(StageParams):
    source: Input = semantic()
    rate: float = semantic(0.5)
    tags: list[int] = semantic([1, 2])
    nested: Nested = semantic(default_factory=Nested)
    buckets: int = numeric(4)
    every: int = runtime(7)

KIND = Kind("{name}", 1, Params, {{"source": "data"}}, {{"out": "data"}}, libraries=("torch",))
"""
KINDS = ("fit", "coarse")
DEFAULTS: dict[str, Any] = {
    "rate": 0.5,
    "seed": 1234,
    "tags": [1, 2],
    "depth": 1,
    "width": 1,
    "buckets": 4,
    "every": 7,
    "description": "",
}
SEMANTIC = ("rate", "seed", "tags", "depth")
CHOICES: dict[str, list[Any]] = {
    "rate": [0.5, 0.25, 0.75, 1e-5, 1.0, 0.0, -0.0],
    "seed": [1234, 0, 7],
    "tags": [[1, 2], [], [2, 1], [1, 2, 3]],
    "depth": [1, 2],
    "width": [1, 2],
    "buckets": [4, 8],
    "every": [7, 50],
    "description": ["", "a note", "another: note"],
}


@dataclass
class Stage:
    """A stage as the model knows it; ``source`` names a file or another stage."""

    kind: str
    source: str
    values: dict[str, Any] = field(default_factory=dict)

    def value(self, name: str) -> Any:
        """What a field holds, written out or not."""
        return self.values.get(name, DEFAULTS[name])


@dataclass
class State:
    """Everything that an edit can change."""

    stages: dict[str, Stage]
    files: dict[str, str]
    code: dict[str, int]
    remarks: int = 0
    torch: str = "2.13.0"

    def meaning(self, name: str) -> tuple[Any, ...]:
        """All that may change what a stage yields."""
        stage = self.stages[name]
        values = tuple(repr(stage.value(leaf)) for leaf in SEMANTIC)
        minor = ".".join(self.torch.split(".")[:2])
        return stage.kind, self.code[stage.kind], minor, values, self.input(name)

    def input(self, name: str) -> str:
        """What a stage reads."""
        source = self.stages[name].source
        return self.output(source) if source in self.stages else digest(self.files[source])

    def output(self, name: str) -> str:
        """What a stage yields; ``coarse`` looks at half of its settings only, so that edits can end there."""
        kind, code, minor, values, read = self.meaning(name)
        if kind == "coarse":
            stage = self.stages[name]
            return digest(repr((kind, code, stage.value("rate") > 0.5, stage.value("seed"), read)))
        return digest(repr((kind, code, minor, values, read)))


def digest(text: str) -> str:
    """Looks like one of the store's."""
    return f"b3:{hashlib.sha256(text.encode()).hexdigest()}"


class Machine:
    """The model, the files that it stands for, and a store."""

    def __init__(self, folder: Path, seed: int) -> None:
        self.folder, self.chance = folder, random.Random(seed)
        self.store, self.ran = FakeStore(), set[tuple[Any, ...]]()
        self.last: dict[str, tuple[Any, ...]] = {}
        self.history: dict[str, list[tuple[Any, ...]]] = {}
        stages = {
            "a": Stage("fit", "x"),
            "b": Stage("coarse", "a"),
            "c": Stage("fit", "b"),
            "d": Stage("fit", "a"),
        }
        self.state = State(stages, {"x": "one", "y": "two"}, dict.fromkeys(KINDS, 0))
        for name in KINDS:
            (folder / "kinds" / name).mkdir(parents=True)
            (folder / "kinds" / name / "kind.py").write_text(KIND.format(name=name))
            (folder / "kinds" / name / "launch.argv.j2").write_text("{{ launch.python }}\n-m\n{{ module }}\n")
        for name in self.state.files:
            self._write_file(name)
        for name in KINDS:
            self._write_code(name)

    def edit(self) -> str:
        """Do one thing at random; say what."""
        edits: list[tuple[int, Callable[[], str]]] = [
            (6, self._set_value), (3, self._edit_file), (2, self._touch_file), (2, self._rewire),
            (2, self._edit_code), (2, self._remark), (1, self._upgrade), (1, self._rename),
            (1, self._add), (1, self._remove), (4, self._run),
        ]  # fmt: skip
        weights = [weight for weight, _ in edits]
        return self.chance.choices([work for _, work in edits], weights)[0]()

    def check(self) -> None:
        """Plan, and compare with the model.

        Raises:
            AssertionError: the plan is wrong, or leaves something unexplained.
        """
        plan, cached = self.plan(), set[str]()
        assert set(plan.stages) == set(self.state.stages)
        for name, planned in plan.stages.items():
            source = self.state.stages[name].source
            ready = source not in self.state.stages or source in cached
            if planned.verdict is Verdict.CACHED:
                assert planned.result is not None
                assert planned.result.outputs["out"] == self.state.output(name), f"false hit: {name}"
                assert not planned.reasons, name
                cached.add(name)
                continue
            assert not (ready and self.state.meaning(name) in self.ran), f"false miss: {name}"
            self._check_reasons(name, plan, ready)

    def plan(self) -> Plan:
        """The plan for the state as it is now."""
        return make_plan(self._compile(), self.store, self._version)

    def _check_reasons(self, name: str, plan: Plan, ready: bool) -> None:
        planned = plan.stages[name]
        assert planned.reasons, f"unexplained: {name}"
        codes = {reason.code for reason in planned.reasons}
        assert ready == (ReasonCode.UPSTREAM_PENDING not in codes), name
        # What waits is certain to run only when no result of it ever had the values of now.
        open_still = not ready and self.state.meaning(name)[:4] in self.history.get(name, [])
        many = len(self.store.earlier_keys("toy", name)) > EARLIER  # so many results are not all compared
        assert many or (planned.verdict is Verdict.UNDECIDED) == open_still, f"wrongly certain: {name}"
        assert codes - PENDING or planned.verdict is Verdict.UNDECIDED, f"unexplained: {name}"
        assert all(sentence(reason) for reason in planned.reasons), name
        told = {_cause(reason) for reason in planned.reasons if reason.code not in PENDING}
        assert told == self._causes(name, ready), (name, told, self._causes(name, ready))

    def _causes(self, name: str, ready: bool) -> set[str]:
        """What differs from the last run of a stage, by the model."""
        if name not in self.last:
            return {"never_run"}
        old, new = self.last[name], self.state.meaning(name)
        labels = ("kind_changed", "code_changed", "library_changed")
        causes = {label for label, before, after in zip(labels, old, new, strict=False) if before != after}
        leaves = zip(SEMANTIC, old[3], new[3], strict=True)
        causes |= {leaf for leaf, before, after in leaves if before != after}
        if "kind_changed" in causes:
            causes |= {"code_changed", "command_changed"}  # each kind has files and a module of its own
        return causes | ({"input_changed"} if ready and old[4] != new[4] else set())

    def _compile(self) -> Any:
        spec = self.folder / "spec.yaml"
        spec.write_bytes(self._yaml().encode())
        digests = CachedDigester(self.folder / "stat-cache.json")
        world = World(Mirrors(), digests, 0, self._version, self.folder / "hub")
        pipeline = compile_pipeline(load_pipeline(spec), world)
        digests.save()
        return pipeline

    def _version(self, name: str) -> str:
        return self.state.torch

    def _run(self) -> str:
        """Bring every stage, or those up to one at random, to a result."""
        outputs: dict[tuple[str, str], str] = {}
        names = list(self._compile().actions)
        until = self.chance.randint(1, len(names))
        for name, action in list(self._compile().actions.items())[:until]:
            known = key_document(action, outputs, self._version)
            assert isinstance(known, KeyDocument)
            made = {"out": self.state.output(name)}
            new = ActionResult(known.key, made, None, {}, 1.0, 1, "2026-03-01T10:00:00+00:00", 1)
            result = self.store.results.setdefault(known.key, new)
            self.store.kept.setdefault(known.key, known.stored)
            self.store.note(f"{action.pipeline}/{name}", known.key)
            self.history.setdefault(name, []).append(self.state.meaning(name)[:4])
            outputs[(name, "out")] = result.outputs["out"]
            self.last[name] = self.state.meaning(name)
            self.ran.add(self.last[name])
        return f"run {until} of {len(names)}"

    def _set_value(self) -> str:
        name = self.chance.choice(list(self.state.stages))
        leaf = self.chance.choice(list(CHOICES))
        values = self.state.stages[name].values
        if leaf in values and self.chance.random() < 0.3:
            del values[leaf]
            return f"{name}.{leaf}: default"
        values[leaf] = self.chance.choice(CHOICES[leaf])
        return f"{name}.{leaf}: {values[leaf]!r}"

    def _edit_file(self) -> str:
        name = self.chance.choice(list(self.state.files))
        self.state.files[name] = self.chance.choice(["one", "two", "six", "three"])
        self._write_file(name, by_rename=self.chance.random() < 0.3)
        return f"file {name}: {self.state.files[name]}"

    def _touch_file(self) -> str:
        name = self.chance.choice(list(self.state.files))
        moved = self.chance.choice([-(10**12), 10**9, 10**15])
        status = (self.folder / f"{name}.jsonl").stat()
        os.utime(self.folder / f"{name}.jsonl", ns=(status.st_atime_ns, status.st_mtime_ns + moved))
        return f"touch {name}"

    def _rewire(self) -> str:
        names = list(self.state.stages)
        place = self.chance.randrange(len(names))
        source = self.chance.choice([*self.state.files, *names[:place]])
        self.state.stages[names[place]].source = source
        return f"{names[place]} reads {source}"

    def _edit_code(self) -> str:
        name = self.chance.choice(KINDS)
        self.state.code[name] = self.chance.randrange(3)
        self._write_code(name)
        return f"code of {name}: {self.state.code[name]}"

    def _remark(self) -> str:
        self.state.remarks += 1
        self._write_code(self.chance.choice(KINDS))
        return "remark"

    def _upgrade(self) -> str:
        self.state.torch = self.chance.choice(["2.13.0", "2.13.1", "2.14.0", "2.13.0+cpu"])
        return f"torch {self.state.torch}"

    def _rename(self) -> str:
        old = self.chance.choice(list(self.state.stages))
        new = self._new_name()
        stages = {new if name == old else name: stage for name, stage in self.state.stages.items()}
        for stage in stages.values():
            stage.source = new if stage.source == old else stage.source
        self.state.stages = stages
        return f"{old} is called {new}"

    def _add(self) -> str:
        if len(self.state.stages) > 6:
            return "nothing"
        source = self.chance.choice([*self.state.files, *self.state.stages])
        name = self._new_name()
        self.state.stages[name] = Stage(self.chance.choice(KINDS), source)
        return f"new stage {name}"

    def _remove(self) -> str:
        read = {stage.source for stage in self.state.stages.values()}
        free = [name for name in self.state.stages if name not in read]
        if len(self.state.stages) < 3:
            return "nothing"
        name = self.chance.choice(free)
        del self.state.stages[name]
        return f"no stage {name}"

    def _new_name(self) -> str:
        return self.chance.choice([name for name in "abcdefghijklmnop" if name not in self.state.stages])

    def _write_file(self, name: str, *, by_rename: bool = False) -> None:
        path = self.folder / f"{name}.jsonl"
        written = path.with_suffix(".new") if by_rename else path
        written.write_text(f'{{"row": "{self.state.files[name]}"}}\n')
        if by_rename:
            written.replace(path)

    def _write_code(self, name: str) -> None:
        lines = [
            f'"""Remark {self.state.remarks}."""',
            "",
            f"VALUE = {self.state.code[name]}  # {self.state.remarks}",
        ]
        self.chance.random() < 0.5 and lines.append("")
        (self.folder / "kinds" / name / "main.py").write_text("\n".join(lines) + "\n")

    def _yaml(self) -> str:
        """The spec, formatted as chance will have it."""
        chance = self.chance
        lines = ["schema: 1", "name: toy", "kinds: [kinds]", "stages:"]
        stages = list(self.state.stages.items())
        if chance.random() < 0.3:
            chance.shuffle(stages)
        for name, stage in stages:
            lines += [f"  {name}:", *self._fields(stage)]
            if chance.random() < 0.1:
                lines.append("  # a comment")
        return ("\r\n" if chance.random() < 0.2 else "\n").join(lines) + "\n"

    def _fields(self, stage: Stage) -> list[str]:
        source = (
            stage.source + ".out" if stage.source in self.state.stages else f"{{path: {stage.source}.jsonl}}"
        )
        values = dict(stage.values)
        if self.chance.random() < 0.1:
            leaf = self.chance.choice(list(DEFAULTS))
            values.setdefault(leaf, DEFAULTS[leaf])
        nested = {leaf: values.pop(leaf) for leaf in ("depth", "width") if leaf in values}
        fields = [f"    {leaf}: {_written(value)}" for leaf, value in values.items()]
        fields += [f"    kind: {stage.kind}", f"    source: {source}"]
        if nested:
            inside = ", ".join(f"{leaf}: {value}" for leaf, value in nested.items())
            fields.append(f"    nested: {{{inside}}}")
        self.chance.shuffle(fields)
        return fields


def _cause(reason: Reason) -> str:
    """A reason in the model's words: the leaf that changed, else its code."""
    if reason.code is not ReasonCode.PARAMETER_CHANGED:
        return str(reason.code)
    assert repr(reason.before) != repr(reason.after), reason  # -0.0 is not 0.0
    return next(part for part in reason.path.split(".") if part in SEMANTIC)


def _written(value: Any) -> str:
    return f"{value!r}" if isinstance(value, str) else f"{value}"


def main() -> None:
    """Edit and check; the first wrong plan ends it with the edits that led there."""
    try_edits(__doc__, 100_000, lambda *given: f"every verdict right and explained: {story(*given)}")


def story(folder: Path, seed: int, edits: int) -> dict[str, int]:
    """So many random edits, each followed by a check; how often each verdict was seen.

    Raises:
        AssertionError: a plan is wrong; the last edits are named.
    """
    machine, done, seen = Machine(folder, seed), list[str](), dict[str, int]()
    for number in range(edits):
        done.append(machine.edit())
        try:
            machine.check()
        except AssertionError as error:
            last = "\n  ".join(done[-15:])
            raise AssertionError(f"seed {seed}, edit {number}: {error}\nlast edits:\n  {last}") from error
        for planned in machine.plan().stages.values() if number % 10 == 0 else ():
            seen[str(planned.verdict)] = seen.get(str(planned.verdict), 0) + 1
    return seen


if __name__ == "__main__":
    main()
