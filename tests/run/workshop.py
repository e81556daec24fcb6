"""A small workshop around the toy kind: write a spec, run it, look at what happened."""

import io
import os
import subprocess
import sys
import time
from dataclasses import dataclass, field, replace
from pathlib import Path

import yaml
from alive import attempt_processes

from rlhfc.compile.digests import CachedDigester
from rlhfc.compile.pipeline import compile_pipeline
from rlhfc.compile.world import this_machine
from rlhfc.plan.held import thaw
from rlhfc.plan.select import Selection, select
from rlhfc.run.attempt import attempts
from rlhfc.run.display import PlainDisplay
from rlhfc.run.run import NO_TERMS, Machine, check, run_pipeline
from rlhfc.spec.load import load_pipeline
from rlhfc.store.store import Store

KINDS = Path(__file__).parent / "kinds"
# Whoever runs the tests may ignore these signals (`&` in a script, nohup), and children inherit that.
LAUNCHER = (
    "import signal, sys; from rlhfc.cli.main import main; "
    "signal.signal(signal.SIGINT, signal.default_int_handler); signal.signal(signal.SIGHUP, signal.SIG_DFL); "
    "sys.exit(main())"
)


@dataclass
class Bench:
    """One folder with a spec and a store."""

    folder: Path
    said: list[str] = field(default_factory=list)

    @property
    def spec(self) -> Path:
        """The pipeline's YAML file."""
        return self.folder / "toys.yaml"

    @property
    def trace_file(self) -> Path:
        """Lines that the stages leave."""
        return self.folder / "trace"

    def write(self, **stages: dict) -> None:
        """Write a spec; a stage is of the toy kind unless it says otherwise."""
        written = {name: {"kind": "toy", "retries": 0, **fields} for name, fields in stages.items()}
        text = {"schema": 1, "kinds": [str(KINDS)], "stages": written}
        self.spec.write_text(yaml.safe_dump(text, sort_keys=False))

    def store(self) -> Store:
        """Open the store; its warnings go to `said`."""
        return Store.create(self.folder / "store", warn=self.said.append)

    def run(self, cpus=2, forced=(), thawed=(), terms=NO_TERMS, **selection):
        """Run in this process; the selection is that of :class:`rlhfc.plan.select.Selection`."""
        os.environ["TOY_TRACE"] = str(self.trace_file)
        store = self.store()
        world = this_machine([], CachedDigester())
        pipeline = thaw(compile_pipeline(load_pipeline(self.spec), world), thawed)
        selected = select(pipeline, Selection(**selection, forced=tuple(forced)))
        stream = io.StringIO()
        try:
            show = lambda board: PlainDisplay(board, stream)  # noqa: E731
            machine = Machine(cpus, ())
            plan = check(pipeline, selected, store, world, machine)
            return run_pipeline(plan, store, world, machine, show, replace(terms, forced=forced))
        finally:
            del os.environ["TOY_TRACE"]
            self.said += stream.getvalue().splitlines()

    def states(self, **options):
        """Run in this process; return the state of each stage."""
        return {name: str(ended.state) for name, ended in self.run(**options).stages.items()}

    def start(self, *options: str) -> subprocess.Popen:
        """Start the command line in a process of its own."""
        return subprocess.Popen(
            [
                sys.executable,
                "-c",
                LAUNCHER,
                "run",
                str(self.spec),
                "--store",
                str(self.folder / "store"),
                *options,
            ],
            env={**os.environ, "TOY_TRACE": str(self.trace_file)},
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
        )

    def kill_when(self, condition, *options: str, seconds=20.0) -> None:
        """Start a run, end it with SIGKILL when something is so, and wait until its processes are gone."""
        process = self.start(*options)
        wait_for(condition, seconds)
        process.kill()
        process.communicate()
        wait_for(lambda: not self.living(), 5)

    def trace(self) -> list[str]:
        """What the stages did, in order: `stage what`."""
        if not self.trace_file.exists():
            return []
        return [line.rpartition(" ")[0] for line in self.trace_file.read_text().splitlines()]

    def living(self) -> list[int]:
        """Find the processes of this workshop's attempts."""
        return attempt_processes(self.folder)

    def attempt_states(self, stage: str = "a") -> list[str]:
        """Tell the state of every attempt of a stage, oldest first."""
        works = (self.folder / "store" / "work").glob(f"{stage}-*")
        return [attempt.status().state for work in works for attempt in attempts(work)]

    def output(self, outcome, stage: str) -> str:
        """Read what a stage made."""
        tree = outcome.stages[stage].result.outputs["thing"]
        return (self.store().view(tree) / "data.txt").read_text()


def wait_for(condition, seconds=20.0):
    """Wait until something is so; fail when it takes too long."""
    deadline = time.monotonic() + seconds
    while not (found := condition()):
        assert time.monotonic() < deadline, "it did not come about"
        time.sleep(0.01)
    return found


def finish(process, seconds=60):
    """Wait for a command; return its status and both streams."""
    out, err = process.communicate(timeout=seconds)
    return process.returncode, out, err
