"""Recorded runs: what training took and yielded once, played into a store under the keys of today.

Training takes minutes, which nobody can pay each time that a page is checked. A recording keeps the
times, figures and files' sizes of a real run. Played, it fills a store with results that a plan, a
run with nothing to do, `status` and the report cannot tell from those of that run; in the place of
weights and rows stand empty bytes.

    python tests/project/recorded.py record SPEC STORE       write recorded/<pipeline>.json
    python tests/project/recorded.py play SPEC [OPTION …]    fill the store `.rlhfc`

``--stop STAGE=STEP/TOTAL`` leaves a run that was killed when the stage had saved a checkpoint at this
step. ``--as PIPELINE`` plays the run of another pipeline of the same content; stages that go by other
names there are found by their kind.
"""

from __future__ import annotations

import argparse
import json
from collections.abc import Mapping
from dataclasses import dataclass, replace
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

from rlhfc.cli.prepare import prepare
from rlhfc.compile.action import Action
from rlhfc.compile.keys import KeyDocument
from rlhfc.plan.decide import decide
from rlhfc.plan.planner import make_plan
from rlhfc.run.attempt import Attempt, Status, new_attempt, remove_outputs
from rlhfc.store.checkpoints import FORMAT
from rlhfc.store.publish import Product
from rlhfc.store.records import ActionResult
from rlhfc.store.store import Store

FOLDER = Path(__file__).parent / "recorded"
EVALUATION = "evaluation.json"  # read for the report, so its content is kept
RUN = "20261122T110000-0a1b2c"


@dataclass(frozen=True)
class Stop:
    """Where a run was killed."""

    stage: str
    step: int
    total: int


def load(pipeline: str) -> dict[str, Any]:
    """Each stage of a recorded pipeline: kind, seconds, summary, files by port, evaluation."""
    return json.loads((FOLDER / f"{pipeline}.json").read_text(encoding="utf-8"))


def record(spec: Path, store: Path) -> None:
    """Write down what the results in a store are; every stage of the pipeline must be cached there."""
    prepared = prepare(_options(spec, store))
    opened = Store.open(store)
    plan = make_plan(prepared.pipeline, opened, prepared.world.libraries)
    stages = {}
    for name, planned in plan.stages.items():
        assert planned.result is not None, f"{name} is not cached"
        stages[name] = _recorded(planned.kind, planned.result, opened)
    text = json.dumps(stages, indent=1, ensure_ascii=False) + "\n"
    (FOLDER / f"{prepared.pipeline.name}.json").write_text(text, encoding="utf-8")


def _recorded(kind: str, result: ActionResult, store: Store) -> dict[str, Any]:
    trees = {port: store.tree(tree) for port, tree in sorted(result.outputs.items())}
    found: dict[str, Any] = {"kind": kind, "seconds": result.seconds, "summary": dict(result.summary)}
    found["files"] = {port: {entry.path: entry.size for entry in tree} for port, tree in trees.items()}
    for entry in (entry for tree in trees.values() for entry in tree if entry.path == EVALUATION):
        found["evaluation"] = json.loads(store.blob(entry.digest).read_bytes())
    return found


def play(spec: Path, store: Path, name: str | None = None, stop: Stop | None = None) -> None:
    """Fill a store as if the recorded run had just ended, or had been killed.

    Args:
        spec: of the pipeline.
        store: where.
        name: of the recorded pipeline, if that is another one.
        stop: where the run was killed, if it was.
    """
    store.mkdir(parents=True, exist_ok=True)
    opened = Store.create(store)
    prepared = prepare(_options(spec, store))
    stages = load(name or prepared.pipeline.name)
    kinds = {stage["kind"]: stage for stage in stages.values()}
    outputs: dict[tuple[str, str], str] = {}
    for stage, action in prepared.pipeline.actions.items():
        planned = decide(action, outputs, opened, prepared.world.libraries)
        assert isinstance(planned.known, KeyDocument), f"{stage}: {planned.reasons}"
        facts = stages.get(stage) or kinds[action.kind.name]
        player = Player(opened, action, planned.known, facts)
        if stop is not None and stop.stage == stage:
            player.interrupt(stop)
            return
        result = planned.result or player.publish()
        outputs |= {(stage, port): tree for port, tree in result.outputs.items()}


@dataclass(frozen=True)
class Player:
    """Leaves behind what one stage of the recorded run has left behind."""

    store: Store
    action: Action
    known: KeyDocument
    stage: Mapping[str, Any]

    @property
    def work(self) -> Path:
        """Work folder of the action."""
        return self.store.work(self.action.stage, self.known.key)

    def publish(self) -> ActionResult:
        """The result, and an attempt that is done."""
        attempt = self._attempt("done", self.stage["seconds"])
        ports = {port: self._port(attempt, port, files) for port, files in self.stage["files"].items()}
        product = Product(
            run=RUN,
            pipeline=self.action.pipeline,
            stage=self.action.stage,
            key=self.known.key,
            document=self.known.stored,
            ports=ports,
            metrics=attempt.folder / "metrics.jsonl",
            summary=self.stage["summary"],
            seconds=self.stage["seconds"],
            attempts=1,
        )
        result = self.store.publish(product)
        remove_outputs(self.work, self.store.layout.scratch)
        return result

    def interrupt(self, stop: Stop) -> None:
        """A checkpoint, and an attempt whose run has died."""
        self.store.write_document(self.known.key, self.known.stored)
        attempt = self._attempt("lost", self.stage["seconds"] * stop.step / stop.total)
        folder = attempt.folder / "checkpoints" / f"step-{stop.step:06d}"
        folder.mkdir(parents=True)
        complete = {
            "format": FORMAT,
            "key": self.known.key,
            "step": stop.step,
            "total": stop.total,
            "files": [],
        }
        (folder / "COMPLETE.json").write_text(json.dumps(complete), encoding="utf-8")

    def _attempt(self, state: str, seconds: float) -> Attempt:
        now = datetime.now(UTC)
        status = Status(
            pipeline=self.action.pipeline,
            stage=self.action.stage,
            key=self.known.key,
            run=RUN,
            state="running",
            started=(now - timedelta(seconds=seconds)).isoformat(timespec="milliseconds"),
        )
        attempt = new_attempt(self.work)
        attempt.log.touch()
        ended = now.isoformat(timespec="milliseconds")
        attempt.write_status(replace(status, state=state, ended=ended))
        return attempt

    def _port(self, attempt: Attempt, port: str, files: Mapping[str, int]) -> Path:
        folder = attempt.folder / "out" / port
        for name, size in files.items():
            path = folder / name
            path.parent.mkdir(parents=True, exist_ok=True)
            # No two outputs are the same bytes, as in earnest; what is not JSON is never read.
            text = (
                json.dumps(self.stage["evaluation"]) if name == EVALUATION else f"{self.action.stage} {port}"
            )
            path.write_bytes(text.encode()[:size].ljust(size))
        return folder


def _options(spec: Path, store: Path) -> argparse.Namespace:
    return argparse.Namespace(spec=spec, store=store, overrides=[], overlays=[], mirror=[], rehash=False)


def _stop(text: str) -> Stop:
    stage, _, steps = text.partition("=")
    step, _, total = steps.partition("/")
    return Stop(stage, int(step), int(total))


def main() -> None:
    """Record or play."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    commands = parser.add_subparsers(dest="command", required=True)
    recording = commands.add_parser("record")
    recording.add_argument("spec", type=Path)
    recording.add_argument("store", type=Path)
    playing = commands.add_parser("play")
    playing.add_argument("spec", type=Path)
    playing.add_argument("--as", dest="name", metavar="PIPELINE")
    playing.add_argument("--stop", type=_stop)
    arguments = parser.parse_args()
    if arguments.command == "record":
        record(arguments.spec, arguments.store)
    else:
        play(arguments.spec, Path(".rlhfc"), arguments.name, arguments.stop)


if __name__ == "__main__":
    main()
