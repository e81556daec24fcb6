"""Many runs on one store at once, among plans and removals: a script for as long as one likes.

``python tests/run/races.py --runs 16 --rounds 20 --leases`` says what it tried, and fails when a key
was made twice, when anything was reported but what is expected, or when an output is wrong.
"""

from __future__ import annotations

import argparse
import json
import os
import random
import subprocess
import sys
import tempfile
import time
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from itertools import pairwise
from pathlib import Path

import yaml

KINDS = Path(__file__).parent / "kinds"
LEASE_SECONDS = 5.0


@dataclass
class Race:
    """A folder with a store that many use at once.

    Attributes:
        leases: whether its locks are leases.
    """

    folder: Path
    leases: bool = False

    def __post_init__(self) -> None:
        self.store = self.folder / "store"
        if self.leases:
            (self.store / "locks").mkdir(parents=True)
            (self.store / "VERSION").write_text("rlhfc-store 1\n")
            (self.store / "locks" / "leases").write_text(json.dumps({"seconds": LEASE_SECONDS}))

    def spec(self, name: str, values: dict[str, int]) -> Path:
        """A pipeline of four stages; runs with the same values share their keys."""
        stages = {
            "a": {"value": values["a"]},
            "b": {"value": values["b"], "left": "a.thing"},
            "c": {"value": values["c"], "left": "a.thing"},
            "d": {"value": values["d"], "left": "b.thing", "right": "c.thing"},
        }
        written = {stage: {"kind": "toy", "step_seconds": 0.05, **fields} for stage, fields in stages.items()}
        path = self.folder / f"{name}.yaml"
        path.write_text(yaml.safe_dump({"schema": 1, "kinds": [str(KINDS)], "stages": written}))
        return path

    def start(self, *command: str) -> subprocess.Popen[str]:
        """A command on the store."""
        return subprocess.Popen(
            [sys.executable, "-m", "rlhfc", *command, "--store", str(self.store)],
            env={**os.environ, "TOY_TRACE": str(self.folder / "trace")},
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
        )

    def launches(self) -> Counter[str]:
        """How often each key was launched."""
        statuses = self.store.glob("work/*/attempts/*/status.json")
        return Counter(path.parents[2].name.rpartition("-")[2] for path in statuses)

    def overlaps(self) -> list[str]:
        """Actions of which two attempts ran at the same time, as their statuses say."""
        found = []
        for work in (self.store / "work").iterdir():
            spans = []
            for path in sorted(work.glob("attempts/*/status.json")):
                status = json.loads(path.read_bytes())
                spans.append((status["started"], status["ended"]))
            spans.sort()
            found += [work.name for one, two in pairwise(spans) if two[0] < one[1]]
        return found

    @contextmanager
    def beside(self, *command: str) -> Iterator[list[tuple[int, str]]]:
        """Repeat a command for as long as the block lasts; statuses and errors of all."""
        ended: list[tuple[int, str]] = []
        stop = self.folder / "stop"
        script = (
            "import json, subprocess, sys, pathlib\n"
            "while not pathlib.Path(sys.argv[1]).exists():\n"
            "    done = subprocess.run(sys.argv[2:], capture_output=True, text=True)\n"
            "    print(json.dumps([done.returncode, done.stderr]), flush=True)\n"
        )
        words = [sys.executable, "-m", "rlhfc", *command, "--store", str(self.store)]
        loop = subprocess.Popen(
            [sys.executable, "-c", script, str(stop), *words], stdout=subprocess.PIPE, text=True
        )
        try:
            yield ended
        finally:
            stop.touch()
            out, _ = loop.communicate(timeout=120)
            stop.unlink()
            ended += [tuple(json.loads(line)) for line in out.splitlines()]


def expected(values: dict[str, int]) -> str:
    """What stage `d` makes."""
    a = f"{values['a']}()"
    return f"{values['d']}({values['b']}({a}),{values['c']}({a}))"


def finish(processes: list[subprocess.Popen[str]]) -> list[str]:
    """Wait for commands; what the ones that failed said."""
    ended = [(process, *process.communicate(timeout=600)) for process in processes]
    return [f"{process.returncode}: {err}" for process, _, err in ended if process.returncode or err]


def race(folder: Path, runs: int, seed: int, *, leases: bool, beside: str | None) -> str:
    """One round; says what it was.

    Raises:
        AssertionError: a key was made twice, something failed, or an output is wrong.
    """
    chance, it = random.Random(seed), Race(folder, leases)
    values = [{stage: chance.randrange(2) for stage in "abcd"} for _ in range(runs)]
    specs = [it.spec(f"p{number}", found) for number, found in enumerate(values)]
    first = it.start("run", str(specs[0]), "--quiet")
    assert [] == finish([first])
    commands = {"gc": ("gc", "--grace", "0", "--keep-runs", "0"), "plan": ("plan", str(specs[-1])), None: ()}
    words = commands[beside]
    others: list[tuple[int, str]] = []
    if words:
        with it.beside(*words) as others:
            said = finish([it.start("run", str(spec), "--quiet") for spec in specs])
    else:
        said = finish([it.start("run", str(spec), "--quiet") for spec in specs])
    assert [] == said
    assert [] == [each for each in others if each[0] or each[1]]
    assert [] == it.overlaps()
    if beside != "gc":  # what was collected is made again
        assert {1} == set(it.launches().values()), it.launches()
        keys = {tuple(each[name] for name in uses) for each in values for uses in USES}
        assert len(keys) == len(it.launches())
    for spec, found in zip(specs, values, strict=True):
        if beside == "gc":
            assert [] == finish([it.start("run", str(spec), "--quiet")])
        assert expected(found) == made(it, spec)
    launched = sum(it.launches().values())
    return f"{runs} runs, {beside or 'nothing'} beside ({len(others)} times), {launched} launches"


USES = ("a", "ba", "ca", "dbca")
"""What decides the key of each stage; `b` and `c` are the same action where their values are the same."""


def made(it: Race, spec: Path) -> str:
    """What stage `d` of a spec has made, as `rlhfc show` finds it."""
    process = it.start("show", str(spec), "d")
    out, err = process.communicate(timeout=60)
    assert "" == err
    line = next(line for line in out.splitlines() if line.startswith("artefact"))
    return (Path(line.rpartition(" ")[2]) / "data.txt").read_text()


def main() -> None:
    """Rounds until they are done."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--runs", type=int, default=8, help="runs at once (2 to 16)")
    parser.add_argument("--rounds", type=int, default=6)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--leases", action="store_true", help="with leases, not the kernel's locks")
    options = parser.parse_args()
    for number in range(options.rounds):
        beside = ("gc", "plan", None)[number % 3]
        began = time.monotonic()
        with tempfile.TemporaryDirectory() as folder:
            os.environ["RLHFC_TRUST"] = os.pathsep.join(map(str, (Path(folder).resolve(), KINDS)))
            seed = options.seed + number
            told = race(Path(folder), options.runs, seed, leases=options.leases, beside=beside)
        print(f"seed {seed}: {told}, {time.monotonic() - began:.0f} s", flush=True)


if __name__ == "__main__":
    main()
