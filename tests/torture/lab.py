"""The pipeline that is tortured, a model of what its stages must yield, and what must hold after a fault."""

from __future__ import annotations

import json
import shutil
import sys
import time
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import yaml

sys.path.insert(0, str(Path(__file__).parents[1]))
from alive import attempt_processes
from faults import Fault
from soundness import unsound
from warm import Done, Warm

from rlhfc.store.checkpoints import newest_checkpoint
from rlhfc.store.digest import TreeEntry, bytes_digest, tree_digest

KINDS = Path(__file__).parent / "kinds"
STAGES: Mapping[str, Mapping[str, Any]] = {
    "a": {"data": {"path": "data"}, "value": 1},
    "b": {"left": "a.thing", "value": 2, "steps": 3},
    "c": {"left": "a.thing", "value": 3},
    "d": {"left": "b.thing", "right": "c.thing", "value": 4},
}
DATA = "once upon a time"
DISPOSABLE = {"stat-cache.json", "said.out", "said.err"}
LEDGER = "ledger.jsonl"
REWRITTEN = {"reports", "plans"}


class BrokenPromiseError(AssertionError):
    """Something that rlhfc promises does not hold."""


@dataclass
class Lab:
    """One folder with the spec and a store."""

    folder: Path
    warm: Warm
    store: Path
    values: dict[str, int] = field(
        default_factory=lambda: {name: row["value"] for name, row in STAGES.items()}
    )
    data: str = DATA
    step_seconds: float = 0.0

    @classmethod
    def make(cls, folder: Path, warm: Warm, store: Path | None = None, **changes: Any) -> Lab:
        """Make the folder anew, with the spec in it."""
        shutil.rmtree(folder, ignore_errors=True)
        folder.mkdir(parents=True)
        lab = cls(folder, warm, store or folder / "store", **changes)
        lab.write()
        return lab

    def write(self) -> None:
        """Write spec and data as the values say."""
        stages = {
            name: {"kind": "step", **row, "value": self.values[name], "step_seconds": self.step_seconds}
            for name, row in STAGES.items()
        }
        spec = {"schema": 1, "name": "lab", "kinds": [str(KINDS)], "stages": stages}
        (self.folder / "lab.yaml").write_text(yaml.safe_dump(spec, sort_keys=False))
        (self.folder / "data").mkdir(exist_ok=True)
        (self.folder / "data" / "text").write_text(self.data)

    @property
    def trace_file(self) -> Path:
        """Lines that the stages leave: stage, key, what."""
        return self.folder / "trace"

    def texts(self) -> dict[str, str]:
        """What each stage must make, by the model."""
        made: dict[str, str] = {}
        for name, row in STAGES.items():
            read = [made[row[port].partition(".")[0]] for port in ("left", "right") if port in row]
            read += [self.data] if "data" in row else []
            made[name] = f"{self.values[name]}({','.join(read)})"
        return made

    def trees(self) -> dict[str, str]:
        """Tree digest of what each stage must make, by the model."""
        return {name: _tree(text) for name, text in self.texts().items()}

    def rlhfc(self, command: str, *options: str, fault: Fault | None = None, **more: Any) -> Done:
        """Run a command on the spec and wait for its end."""
        variables = {"LAB_TRACE": str(self.trace_file), **more.pop("variables", {})}
        argv = [command, "lab.yaml", "--store", str(self.store), *options]
        return self.warm.run(argv, self.folder, fault, variables, **more)

    def trace(self) -> list[tuple[str, str, str]]:
        """What the stages did, in order."""
        if not self.trace_file.exists():
            return []
        lines = self.trace_file.read_text().splitlines()
        return [(stage, key, what) for stage, key, what in (line.split(" ") for line in lines)]

    def living(self) -> list[int]:
        """Processes of this store's attempts."""
        return attempt_processes(self.store)

    def plan(self) -> dict[str, dict[str, Any]]:
        """Stages of ``rlhfc plan --json`` by name.

        Raises:
            BrokenPromiseError: it fails.
        """
        done = self.rlhfc("plan", "--json")
        require(done.status == 0, "`rlhfc plan` fails", done.err)
        return {stage["stage"]: stage for stage in json.loads(done.out)["stages"]}

    def outputs(self, done: Done) -> dict[str, str]:
        """Tree digest of each stage's output, from what ``rlhfc run --json`` printed."""
        stages = json.loads(done.out)["stages"]
        return {stage["stage"]: (stage["outputs"] or {}).get("thing") for stage in stages}

    def state(self) -> dict[str, tuple[int, int]]:
        """Size and modification time of every file of the store that a run without work must leave alone."""
        found = {}
        for path in self.store.rglob("*"):
            name = path.relative_to(self.store)
            if path.is_file() and name.parts[0] not in REWRITTEN and path.name not in DISPOSABLE:
                status = path.stat()
                found[str(name)] = (status.st_size, status.st_mtime_ns)
        return found


def require(holds: bool, promise: str, more: object = "") -> None:
    """Raise when a promise does not hold.

    Raises:
        BrokenPromiseError: it does not.
    """
    if not holds:
        raise BrokenPromiseError(f"{promise}\n{more}".rstrip())


def recovers(lab: Lab, torn: str = "no file") -> int:
    """Hold the store after a fault against every promise; return how many drafts the fault has left.

    Args:
        lab: where the fault was.
        torn: file that may hold a torn line, which is skipped, said aloud, and mended by fsck only.

    Raises:
        BrokenPromiseError: one does not hold.
    """
    dies_out(lab)
    there = _published(lab, torn)
    saved, before = _saved(lab), lab.trace()
    cached = {name for name, stage in lab.plan().items() if stage["verdict"] == "cached"}
    require(
        cached <= there, "plan shows as cached what is not whole in the store", f"{cached} against {there}"
    )
    done = lab.rlhfc("run", "--json")
    require(done.status == 0, "the same command does not finish", done.err)
    require(lab.outputs(done) == lab.trees(), "other outputs than those of an undisturbed run", done.out)
    again = lab.trace()[len(before) :]
    started = {stage for stage, _, what in again if what == "starts"}
    require(not started & there, "a published stage was computed again", started & there)
    for stage, step in saved.items():
        lost = [what for name, _, what in again if name == stage and what in _steps_to(step)]
        require(not lost, f"steps of {stage} that checkpoint {step} holds were taken again", lost)
    require(not (found := _unsound(lab, torn)), "the store is not sound", found)
    repair = ["--repair"] if torn == LEDGER else []
    checked = lab.warm.run(["fsck", *repair, "--store", str(lab.store)], lab.folder)
    require(checked.status == 0, "fsck finds fault with the store", checked.out + checked.err)
    rests(lab, torn)
    return len(drafts(lab.store))


def dies_out(lab: Lab) -> None:
    """Wait until no process of an attempt lives.

    Raises:
        BrokenPromiseError: one lives on.
    """
    deadline = time.monotonic() + 10
    while (living := lab.living()) and time.monotonic() < deadline:
        time.sleep(0.005)
    require(not living, "processes survive", living)


def rests(lab: Lab, torn: str = "no file") -> None:
    """The same command once more does nothing, and changes nothing.

    Raises:
        BrokenPromiseError: it does.
    """
    before, traced = lab.state(), lab.trace()
    done = lab.rlhfc("run")
    require(done.status == 0 and "nothing to do" in done.err, "a second run finds work", done.err)
    said = [line for line in done.err.splitlines() if torn not in line]
    require("warning" not in "\n".join(said), "a second run warns", done.err)
    require(traced == lab.trace(), "a second run starts a stage")
    after = lab.state()
    changed = {name for name in before.keys() | after.keys() if before.get(name) != after.get(name)}
    require(not changed, "a second run changes the store", changed)


def drafts(store: Path) -> list[Path]:
    """Files that a crash left half written, or that it did not remove: for ``rlhfc gc``."""
    found = [path for path in (store / "tmp").rglob("*") if path.is_file()]
    return found + [path for path in store.rglob(".*.*-*") if path.is_file()]


def _unsound(lab: Lab, torn: str) -> list[str]:
    return [text for text in unsound(lab.store) if torn not in text]


def _published(lab: Lab, torn: str) -> set[str]:
    """Stages that have a record in the store, whose every file is whole."""
    bad = _unsound(lab, torn)
    require(not bad, "the store is not sound", bad)
    digits = {path.parent.name + path.stem for path in (lab.store / "actions").glob("*/*.json")}
    return {stage for stage, key, _ in lab.trace() if key.removeprefix("b3:") in digits}


def _saved(lab: Lab) -> dict[str, int]:
    """Step of the newest checkpoint of each stage that has one."""
    works = {path.name.partition("-")[0]: path for path in (lab.store / "work").glob("*-*")}
    owners = {stage: path / "key.json" for stage, path in works.items()}
    keys = {stage: json.loads(file.read_bytes())["key"] for stage, file in owners.items() if file.exists()}
    found = {stage: newest_checkpoint(works[stage], key) for stage, key in keys.items()}
    return {stage: step[0] for stage, step in found.items() if step is not None}


def _steps_to(step: int) -> set[str]:
    return {f"step-{number}" for number in range(1, step + 1)}


def _tree(text: str) -> str:
    files = {"text": text.encode(), "below/length.json": str(len(text)).encode()}
    return tree_digest(TreeEntry(name, len(data), bytes_digest(data)) for name, data in files.items())
