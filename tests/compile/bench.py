"""A spec with all kinds, a machine made of values, and the way from text to keys."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path

from rlhfc.compile.action import Pipeline
from rlhfc.compile.digests import CachedDigester
from rlhfc.compile.keys import KeyDocument, key_document
from rlhfc.compile.mirrors import Mirrors
from rlhfc.compile.normalise import SourceFile
from rlhfc.compile.pipeline import compile_pipeline
from rlhfc.compile.world import World
from rlhfc.spec.load import load_pipeline
from rlhfc.trust import Trust

ALL_KINDS = (Path(__file__).parent / "all_kinds.yaml").read_text(encoding="utf-8")


def some_version(_: str) -> str:
    """Every distribution is there, in one version."""
    return "1.2.3"


class NoCode(CachedDigester):
    """Takes all code for the same: what code does to keys has tests of its own."""

    def source(self, path: Path) -> SourceFile:
        """Neither content nor imports."""
        return SourceFile("b3:code", ())


@dataclass(frozen=True)
class Bench:
    """A folder with sources, and a machine; compiles specs that lie in the folder."""

    folder: Path
    world: World

    def compile(self, text: str, overrides: Sequence[str] = ()) -> Pipeline:
        """Compile a spec that lies in the folder."""
        spec = self.folder / "spec.yaml"
        spec.write_text(text, encoding="utf-8")
        return compile_pipeline(load_pipeline(spec, overrides, trust=self.world.trust), self.world)

    def documents(self, text: str, overrides: Sequence[str] = ()) -> dict[str, KeyDocument]:
        """Key document of every stage, as if every output had been made and always held the same."""
        pipeline = self.compile(text, overrides)
        outputs = {
            (name, port): f"b3:{'0' * 64}"
            for name, action in pipeline.actions.items()
            for port in action.kind.outputs
        }
        documents = {}
        for name, action in pipeline.actions.items():
            known = key_document(action, outputs, self.world.libraries)
            assert isinstance(known, KeyDocument), known
            documents[name] = known
        return documents

    def keys(self, text: str, overrides: Sequence[str] = ()) -> dict[str, str]:
        """Key of every stage, as in :meth:`documents`."""
        return {name: known.key for name, known in self.documents(text, overrides).items()}

    def on(self, **changes: object) -> Bench:
        """The same folder on another machine."""
        return replace(self, world=replace(self.world, **changes))


def make_bench(folder: Path) -> Bench:
    """Put a model, rows and a judge into a folder."""
    (folder / "tiny").mkdir()
    (folder / "tiny" / "config.json").write_text("{}")
    # Every column also under the name that a test gives it to flip the leaf that maps it.
    row = {name + end: "text" for name in ("prompt", "chosen", "rejected") for end in ("", "x")}
    (folder / "rows.jsonl").write_text(json.dumps(row) + "\n")
    (folder / "judge.py").write_text("def score(prompt, response):\n    return 0.0\n")
    trust = Trust(folder / "nobody", [folder.resolve()])
    world = World(Mirrors(), NoCode(), 0, libraries=some_version, hub_cache=folder / "hub", trust=trust)
    return Bench(folder, world)
