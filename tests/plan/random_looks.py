"""Random edits of everything that a plan is made from: a remembered plan is shown only while it is true.

After each edit ``rlhfc plan`` is asked twice, once as users do and once with ``--rehash``, which remembers
nothing. Both must say the same. Nothing is modelled, so whatever a plan may depend on can be an edit.
"""

from __future__ import annotations

import contextlib
import io
import json
import os
import random
import shutil
import subprocess
from collections.abc import Callable, Iterator
from pathlib import Path
from unittest import mock

from by_hand import try_edits

from rlhfc.cli import afresh
from rlhfc.cli.main import main as rlhfc
from rlhfc.cli.options import DEFAULT_STORE
from rlhfc.compile.digests import CachedDigester
from rlhfc.compile.keys import KeyDocument
from rlhfc.compile.pipeline import compile_pipeline
from rlhfc.compile.world import this_machine
from rlhfc.errors import UserError
from rlhfc.plan import memo
from rlhfc.plan.decide import decide
from rlhfc.spec.load import load_pipeline
from rlhfc.store.publish import Product
from rlhfc.store.store import Store

KIND = """\
from rlhfc.kind import Input, Kind, StageParams, numeric, semantic

class Params(StageParams):
    source: Input = semantic()
    rate: float = semantic({rate})
    buckets: int = numeric(4)

KIND = Kind("toy", 1, Params, {{"source": "data"}}, {{"out": "data"}}, libraries=("jinja2",), resumable=True)
"""
SPEC = """\
schema: 1
include: [parts/../base.yaml]
kinds: [linked]
vars: {{rate: {rate}}}
matrix: {{kl: {kl}}}
libraries: {{jinja2: {policy}}}
stages:
  first: {{kind: toy, source: {{path: rows}}, rate: "${{rate}}", {hold}}}
  second: {{kind: toy, source: first.out, rate: "${{matrix.kl}}", ignore_changes: {ignored}}}
  third: {{kind: toy, source: {{hub: {hub}}}}}
"""
OPTIONS: tuple[tuple[str, ...], ...] = (
    (),
    (),
    ("--overlay", "over.yaml"),
    ("--target", "first"),
    ("--until", "first"),
    ("--from", "second"),
    ("--force", "first"),
    ("--thaw", "first"),
    ("--set", "third.rate=0.5"),
    ("--mirror", "a/b=mirror.jsonl"),
)


class World:
    """A folder with a pipeline and everything that belongs to it."""

    def __init__(self, folder: Path, seed: int) -> None:
        self.at, self.chance = folder, random.Random(seed)
        for name in ("kinds/toy", "others/toy", "far/parts", "rows", "away", "config/rlhfc", "hub"):
            (folder / name).mkdir(parents=True)
        (folder / "parts").symlink_to("far/parts")
        for kinds in ("kinds", "others"):
            (folder / kinds / "toy/main.py").write_text("import toy.helper\n")
            (folder / kinds / "toy/launch.argv.j2").write_text("{{ launch.python }}\n-m\n{{ module }}\n")
        for edit in (self.kind, self.link, self.include, self.overlay, self.rows, self.mirror, self.spec):
            edit()
        (folder / "rows/a.jsonl").write_text("{}\n")
        (folder / "kinds/toy/kind.py").write_text(KIND.format(rate=0.1))
        (folder / "others/toy/kind.py").write_text(KIND.format(rate=0.2))
        self.git("init", "-q", "-b", "main")
        Store.create(DEFAULT_STORE)

    def edit(self) -> str:
        """Do one thing at random; its name."""
        edits: list[Callable[[], object]] = [
            self.spec, self.spec, self.include, self.overlay, self.rows, self.rows, self.kind, self.link,
            self.code, self.mirror, self.commit, self.reference, self.publish, self.publish, self.publish,
            self.lose, self.checkpoint, self.nothing, self.nothing,
        ]  # fmt: skip
        chosen = self.chance.choice(edits)
        chosen()
        return chosen.__name__

    def nothing(self) -> None:
        """Leave all as it is."""

    def spec(self) -> None:
        """Other values, axes, ways to hold a result, and policies."""
        pick = self.chance.choice
        text = SPEC.format(
            rate=pick([0.1, 0.2]),
            kl=pick(["[0.1]", "[0.1, 0.2]"]),
            policy=pick(["invalidate", "warn", "ignore"]),
            hold=pick([*["frozen: false"] * 5, "frozen: true"]),
            ignored=pick(["[]", "[rate]", "[source]"]),
            hub=pick(["a/b", "c/d"]),
        )
        (self.at / "toy.yaml").write_text(text)

    def include(self) -> None:
        """The file that is included from above a folder that is a link."""
        (self.at / "far/base.yaml").write_text(f"name: {self.chance.choice(['toy', 'other'])}\n")

    def overlay(self) -> None:
        """A file, or a link to one."""
        path, text = self.at / "over.yaml", f"vars: {{rate: {self.chance.choice([0.1, 0.3])}}}\n"
        path.unlink(missing_ok=True)
        (self.at / "away/over.yaml").write_text(text)
        if self.chance.random() < 0.5:
            path.symlink_to("away/over.yaml")
        else:
            path.write_text(text)

    def rows(self) -> None:
        """A file of the data comes, goes, or is another."""
        path = self.at / "rows" / self.chance.choice(["a.jsonl", "b.jsonl", "below/c.jsonl"])
        if path.is_symlink() or (path.exists() and self.chance.random() < 0.3):
            path.unlink()
        elif self.chance.random() < 0.3 and not path.exists():
            path.parent.mkdir(exist_ok=True)
            path.symlink_to(self.at / "mirror.jsonl")
        else:
            path.parent.mkdir(exist_ok=True)
            path.write_text(self.chance.choice(["{}\n", '{"a": 1}\n']))

    def mirror(self) -> None:
        """What stands for a hub id, and whether the user's configuration says so."""
        (self.at / "mirror.jsonl").write_text(self.chance.choice(["{}\n", '{"m": 1}\n']))
        text = self.chance.choice(["[mirror]\n", f'[mirror]\n"c/d" = "{self.at}/mirror.jsonl"\n'])
        (self.at / "config/rlhfc/config.toml").write_text(text)

    def kind(self) -> None:
        """A default of the kind."""
        kinds = self.chance.choice(["kinds", "others"])
        (self.at / kinds / "toy/kind.py").write_text(KIND.format(rate=self.chance.choice([0.1, 0.2])))

    def link(self) -> None:
        """Which folder of kinds is meant."""
        (self.at / "linked").unlink(missing_ok=True)
        (self.at / "linked").symlink_to(self.chance.choice(["kinds", "others"]))

    def code(self) -> None:
        """Code that is imported, may be imported, or lies beside it."""
        name = self.chance.choice(["helper.py", "helper/__init__.py", "table.txt", "deep/table.txt"])
        path = self.at / self.chance.choice(["kinds", "others"]) / "toy" / name
        if path.exists() and self.chance.random() < 0.5:
            path.unlink()
        else:
            path.parent.mkdir(exist_ok=True)
            path.write_text(f"A = {self.chance.randrange(3)}\n")

    def reference(self) -> None:
        """The commit of a hub source comes to be known, or another."""
        path = self.at / "hub" / f"datasets--{self.chance.choice(['a--b', 'c--d'])}/refs/main"
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(self.chance.choice("0123") * 40)

    def commit(self) -> None:
        """Git has the spec as it is, or another branch."""
        if self.chance.random() < 0.3:
            self.git("checkout", "-q", "-B", self.chance.choice(["main", "side"]))
        self.git("add", "toy.yaml")
        self.git("commit", "-q", "--allow-empty", "-m", "x")

    def git(self, *arguments: str) -> None:
        """Ask git to do something."""
        names = ("-c", "user.name=n", "-c", "user.email=e@e", "-c", "commit.gpgsign=false")
        subprocess.run(["git", *names, *arguments], cwd=self.at, check=True, capture_output=True)

    def publish(self) -> None:
        """Bring some stages to a result, as a run would."""
        outputs: dict[tuple[str, str], str] = {}
        for name, action, key in self._known(outputs):
            if self.chance.random() < 0.2:
                return
            folder = self.at / "made"
            shutil.rmtree(folder, ignore_errors=True)
            folder.mkdir()
            (folder / "out.txt").write_text(f"{name} {self.chance.randrange(2)}\n")
            product = Product(
                "r", action.pipeline, name, key.key, key.stored, {"out": folder},
                self.at / "no-metrics", {}, 1.0, 1,
            )  # fmt: skip
            outputs[(name, "out")] = Store.open(DEFAULT_STORE).publish(product).outputs["out"]

    def checkpoint(self) -> None:
        """A running action has saved its state, or lost a part of it."""
        for name, _, key in self._known({}):
            state = Store.open(DEFAULT_STORE).work(name, key.key) / "checkpoints/step-1/state"
            state.parent.mkdir(parents=True, exist_ok=True)
            state.write_text(self.chance.choice(["1", "12"]))
            record = {"format": 3, "key": key.key, "step": 1, "total": 2}
            record["files"] = [{"path": "state", "size": 2}]
            (state.parent / "COMPLETE.json").write_text(json.dumps(record))

    def lose(self) -> None:
        """A file of the store is gone, or cut."""
        folders = [DEFAULT_STORE / name for name in ("objects", "trees", "actions", "keydocs", "work")]
        files = sorted(path for folder in folders for path in folder.rglob("*") if path.is_file())
        files += [path for path in (DEFAULT_STORE / "ledger.jsonl",) if path.exists()]
        if files:
            path = self.chance.choice(files)
            if self.chance.random() < 0.5:
                path.unlink()
            else:
                path.chmod(0o600)
                os.truncate(path, path.stat().st_size // 2)

    def _known(self, outputs: dict[tuple[str, str], str]) -> Iterator[tuple]:
        """Stages whose key is known, one after the other, as outputs come to be known."""
        world = this_machine([], CachedDigester())
        try:
            pipeline = compile_pipeline(load_pipeline(Path("toy.yaml")), world)
            for name, action in pipeline.actions.items():
                with contextlib.redirect_stderr(io.StringIO()):
                    planned = decide(action, outputs, Store.open(DEFAULT_STORE), world.libraries)
                if planned.result is None and isinstance(planned.known, KeyDocument):
                    yield name, action, planned.known
        except UserError:
            return


def asked(*options: str) -> tuple[int, str, str]:
    """Status and both streams of ``rlhfc plan``."""
    out, err = io.StringIO(), io.StringIO()
    with contextlib.redirect_stdout(out), contextlib.redirect_stderr(err):
        status = rlhfc(["plan", "toy.yaml", "--json", *options])
    return status, out.getvalue(), err.getvalue()


def story(folder: Path, seed: int, edits: int) -> tuple[int, int]:
    """So many random edits; how many plans were shown again, and how many were refused.

    Raises:
        AssertionError: a plan was shown again that is not true any more.
    """
    made: list[bool] = []
    make = afresh.plan_afresh
    variables = {"XDG_CONFIG_HOME": str(folder / "config"), "HF_HUB_CACHE": str(folder / "hub")}

    def counting(*given):
        made.append(True)
        return make(*given)

    again = refused = 0
    with (
        contextlib.chdir(folder),
        mock.patch.dict(os.environ, variables),
        mock.patch.object(afresh, "plan_afresh", counting),
        mock.patch.object(memo, "RACY_NS", -(10**15)),
    ):
        world, done = World(folder, seed), list[str]()
        for number in range(edits):
            done.append(world.edit())
            options = world.chance.choice(OPTIONS)
            before = len(made)
            told = asked(*options)
            again += len(made) == before
            refused += told[0] == 1
            assert told == asked(*options, "--rehash"), (
                f"seed {seed}, edit {number}: `{' '.join(options)}` is remembered wrongly\n"
                f"last edits: {', '.join(done[-15:])}"
            )
    return again, refused


def main() -> None:
    """Edit and ask; the first wrong plan ends it with the edits that led there."""

    def told(folder: Path, seed: int, edits: int) -> str:
        again, refused = story(folder, seed, edits)
        return f"{again} plans shown again, {refused} refused"

    try_edits(__doc__, 5_000, told)


if __name__ == "__main__":
    main()
