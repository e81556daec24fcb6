"""Stages small enough to run hundreds of times, under any ranks, ZeRO stage and type, killed or not."""

from __future__ import annotations

import hashlib
import json
import os
import re
import shutil
import subprocess
import sys
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from rlhfc.compile.action import UpstreamOutput, WorkPaths
from rlhfc.compile.digests import CachedDigester
from rlhfc.compile.pipeline import compile_pipeline
from rlhfc.compile.render import resolved_config
from rlhfc.compile.world import this_machine
from rlhfc.spec.load import load_pipeline

HERE = Path(__file__).parent
sys.path.insert(0, str(HERE.parent / "pipeline"))
from world import SPLIT, make_world  # noqa: E402 - the tiny model and its rows

# How both models are trained, with all that a checkpoint must bring back.
TRAINED = """\
    dtype: fp32
    dropout: 0.1
    learning_rate: 1e-2
    weight_decay: 0.1
    warmup_steps: 2
    global_batch_size: 8
    micro_batch_size: 2
    max_steps: 4
    checkpoint_every: 2
"""
SPEC = f"""\
schema: 1
name: resumed
defaults: {{device: cpu, log_every: 1}}
stages:
{SPLIT}  sft:
    kind: sft
    model: {{path: model}}
    data: split.sft
{TRAINED}  reward:
    kind: reward
    model: {{path: model}}
    data: split.reward
{TRAINED}  before:
    kind: reference
    model: {{path: model}}
    data: split.reward
    dtype: fp32
  dpo:
    kind: dpo
    model: {{path: model}}
    data: split.reward
    reference: before.log_probs
{TRAINED}  engines:
    kind: engine_init
    actor_model: sft.model
    reward_model: reward.model
    prompts: split.prompts
    actor: {{dtype: fp32, dropout: 0.1}}
    critic: {{dtype: fp32, dropout: 0.1}}
    reference: {{dtype: fp32}}
    reward: {{dtype: fp32}}
    trial_prompts: 8
    max_response_tokens: 8
  ppo:
    kind: ppo
    engines: engines.engines
    prompts: split.prompts
    max_steps: 4
    rollout_batch_size: 8
    minibatch_size: 4
    micro_batch_size: 2
    ppo_epochs: 2
    sampling: {{max_response_tokens: 8}}
    actor_learning_rate: 1e-3
    critic_learning_rate: 1e-3
    actor_weight_decay: 0.1
    critic_weight_decay: 0.1
    warmup_steps: 4
    checkpoint_every: 2
"""


@dataclass(frozen=True)
class Case:
    """A stage under a layout.

    Attributes:
        changes: further settings, as ``--set`` takes them.
    """

    stage: str
    zero: int = 0
    ranks: int = 1
    dtype: str = "fp32"
    changes: tuple[str, ...] = ()

    def __str__(self) -> str:
        return f"{self.stage}-zero{self.zero}-{self.ranks}-{self.dtype}"

    def settings(self) -> list[str]:
        """As ``--set`` takes them."""
        own = [f"{self.stage}.ranks={self.ranks}"]
        if self.stage != "ppo":
            own += [f"{self.stage}.zero_stage={self.zero}", f"{self.stage}.dtype={self.dtype}"]
        else:
            own.append("engines.ranks=1")
            for role in ("actor", "critic", "reference", "reward"):
                frozen = role in ("reference", "reward")
                own.append(f"engines.{role}.zero_stage={self.zero if not frozen or self.zero == 3 else 0}")
                own.append(f"engines.{role}.dtype={self.dtype}")
        return [*own, *self.changes]


@dataclass
class Workbench:
    """A folder with a world in it, and a server that launches stages there.

    Attributes:
        made: outputs of the stages that the others read, by ``stage.port``.
    """

    folder: Path
    server: subprocess.Popen[str] | None = field(default=None, repr=False)

    def __post_init__(self) -> None:
        make_world(self.folder)
        self.spec = self.folder / "resumed.yaml"
        self.spec.write_text(SPEC)
        self.made: dict[str, Path] = {}
        for stage in ("split", "sft", "reward", "before", "engines"):
            assert [0] == self.launch(Case(stage), stage, settings=[]), self.log(stage)
            for port in (self.work(stage) / "out").iterdir():
                self.made[f"{stage}.{port.name}"] = port

    def close(self) -> None:
        """End the server."""
        if self.server is not None:
            assert self.server.stdin is not None
            self.server.stdin.close()
            self.server.wait()

    def work(self, name: str) -> Path:
        """Folder of a named launch."""
        return self.folder / "work" / name

    def log(self, name: str) -> str:
        """What all launches of a name said."""
        return (self.work(name) / "log").read_text()

    def launch(
        self,
        case: Case,
        name: str,
        *,
        settings: Sequence[str] | None = None,
        kill_at: int | None = None,
        after: int | None = None,
        mutations: Sequence[str] = (),
        stop: bool = False,
    ) -> list[int]:
        """Run a case in the work folder ``name``, which may hold checkpoints; exit statuses of the ranks.

        Args:
            case: what to run.
            name: of its work folder.
            settings: in the place of the case's own.
            kill_at: step at which rank 0 kills all, once the checkpoint of step ``after`` is complete.
            after: see ``kill_at``.
            mutations: what to do to the stage before it starts, of those in ``mutations.py``.
            stop: whether it is asked to stop, from the start.
        """
        config = self._config(case, name, case.settings() if settings is None else settings)
        stop_file = Path(config["paths"]["stop_file"])
        stop_file.touch() if stop else stop_file.unlink(missing_ok=True)
        path = self.work(name) / "config.json"
        path.write_text(json.dumps(config))
        checkpoint = (
            self.work(name) / "checkpoints" / f"step-{after:06d}" / "COMPLETE.json" if after else None
        )
        ask = {
            "kind": config["kind"],
            "config": str(path),
            "ranks": config["params"]["ranks"],
            "log": str(self.work(name) / "log"),
            "kill_at": kill_at,
            "after": checkpoint and str(checkpoint),
            "mutations": list(mutations),
        }
        return self._ask(ask)["statuses"]

    def resumed_at(self, name: str) -> int:
        """Step that the last launch of a name went on from; 0 when it started from the beginning."""
        return int(re.findall(r"^resumed at (\d+)$", self.log(name), re.MULTILINE)[-1])

    def outputs(self, name: str) -> dict[str, str]:
        """Digest of every file that a launch made."""
        out = self.work(name) / "out"
        files = sorted(path for path in out.rglob("*") if path.is_file())
        return {str(path.relative_to(out)): hashlib.sha256(path.read_bytes()).hexdigest() for path in files}

    def checkpoints(self, name: str) -> list[str]:
        """Names of the complete checkpoints."""
        return sorted(path.parent.name for path in self.work(name).glob("checkpoints/step-*/COMPLETE.json"))

    def manifest(self, name: str) -> dict[str, Any]:
        """The outputs manifest."""
        found: dict[str, Any] = json.loads((self.work(name) / "outputs.json").read_text())
        return found

    def metrics(self, name: str) -> list[dict[str, Any]]:
        """Metric lines."""
        return [json.loads(line) for line in (self.work(name) / "metrics.jsonl").read_text().splitlines()]

    def _config(self, case: Case, name: str, settings: Sequence[str]) -> dict[str, Any]:
        pipeline = compile_pipeline(load_pipeline(self.spec, settings), this_machine([], CachedDigester()))
        action = pipeline.actions[case.stage]
        places: dict[str, tuple[Path, str | None]] = {}
        for address, binding in action.inputs.items():
            if isinstance(binding, UpstreamOutput):
                places[address] = (self.made[f"{binding.stage}.{binding.port}"], None)
            else:
                assert binding.path is not None
                places[address] = (binding.path, binding.file)
        work = self.work(name)
        shutil.rmtree(work / "out", ignore_errors=True)
        paths = WorkPaths(work, work, {port: work / "out" / port for port in action.kind.outputs})
        for folder in (*paths.outputs.values(), paths.checkpoints):
            folder.mkdir(parents=True, exist_ok=True)
        return resolved_config(action, "b3:" + "0" * 64, places, paths)

    def _ask(self, ask: Mapping[str, Any]) -> dict[str, Any]:
        if self.server is None:
            threads = dict.fromkeys(("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS"), "1")
            self.server = subprocess.Popen(
                [sys.executable, str(HERE / "server.py")],
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE,
                stderr=(self.folder / "server.log").open("w"),
                text=True,
                env={**os.environ, **threads, "DS_ACCELERATOR": "cpu"},
            )
        assert self.server.stdin is not None
        assert self.server.stdout is not None
        self.server.stdin.write(json.dumps(ask) + "\n")
        self.server.stdin.flush()
        while (line := self.server.stdout.readline()) and not line.startswith('{"statuses"'):
            pass
        assert line, (self.folder / "server.log").read_text()
        answer: dict[str, Any] = json.loads(line)
        return answer
