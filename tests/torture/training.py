"""Real training on two ranks, killed at random moments: outputs are as undisturbed, byte for byte.

The pipeline is that of tests/pipeline: seven kinds, ZeRO 1 to 3, PPO with four models. A moment is drawn from
the time that a run takes undisturbed. A run whose guard, launcher or rank is killed must get over it by
itself; one that is killed is started again. When it has ended another store is begun, until enough kills hit.
"""

from __future__ import annotations

import json
import os
import random
import signal
import subprocess
import sys
import time
from collections import Counter
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parents[1]))
sys.path.insert(0, str(Path(__file__).parents[1] / "pipeline"))
from alive import attempt_processes
from lab import require
from world import command, make_world, rlhfc

VICTIMS = ("run", "guard", "launcher", "rank")
FRUITLESS = 2  # kills in a row without progress, before the next waits for some
PATIENCE_SECONDS = 600.0


@dataclass
class Trained:
    """What has come of it: kills by victim and by the stage that ran, and how many runs they hit."""

    victims: Counter[str] = field(default_factory=Counter)
    stages: Counter[str] = field(default_factory=Counter)
    stores: int = 0
    resumed: int = 0
    longest: float = 0.0  # seconds between the start of a run and the kill

    def __str__(self) -> str:
        killed = ", ".join(f"{count} × {name}" for name, count in sorted(self.victims.items()))
        during = ", ".join(f"{count} × {name}" for name, count in sorted(self.stages.items()))
        return (
            f"{self.victims.total()} kills of two-rank training in {self.stores} runs of the pipeline "
            f"({killed}; during {during}), {self.resumed} resumed inside a stage: "
            "all outputs as undisturbed, byte for byte"
        )


def train(folder: Path, kills: int, seed: int, say: Callable[[str], None]) -> Trained:
    """Kill until so many kills have hit.

    Raises:
        BrokenPromiseError: a run does not finish, or its outputs are other ones.
    """
    folder.mkdir(parents=True, exist_ok=True)
    spec = folder / "tiny.yaml"
    if not spec.exists():
        spec = make_world(folder)
    began = time.monotonic()
    clean = rlhfc("run", spec, "--json", store="clean")
    require(clean.returncode == 0, "the undisturbed run fails", clean.stderr)
    chance, trained = random.Random(seed), Trained(longest=time.monotonic() - began)
    while trained.victims.total() < kills:
        trained.stores += 1
        name = f"killed-{seed}-{trained.stores}"
        say(f"store {trained.stores}")
        while trained.victims.total() < kills and _hit(spec, name, chance, trained, say):
            pass
        done = rlhfc("run", spec, "--json", store=name)
        require(done.returncode == 0, "the same command does not finish", done.stderr)
        trained.resumed += done.stderr.count("resumed at step")
        require(_outputs(done.stdout) == _outputs(clean.stdout), "other outputs", done.stdout)
        require(not _processes(folder / name), "processes survive")
    return trained


def _hit(spec: Path, name: str, chance: random.Random, trained: Trained, say: Callable[[str], None]) -> bool:
    """Start the run and kill someone of it; False when the run came to its end all the same."""
    store, log = spec.parent / name, spec.parent / f"{name}.log"
    with log.open("ab") as stream:
        start = stream.tell()
        process = subprocess.Popen(
            command("run", spec, store=name), stdout=subprocess.DEVNULL, stderr=stream, start_new_session=True
        )
    before, wait = _progress(store), chance.uniform(0.5, trained.longest)
    victim = chance.choice(VICTIMS)
    patient = trained.victims.total() % (FRUITLESS + 1) == FRUITLESS
    pid, deadline = _await(process, store, wait, victim, before if patient else None)
    if pid is None:
        require(deadline, "no moment to kill came")
        return False
    stage = _running(store)
    os.kill(pid, signal.SIGKILL)
    process.wait(PATIENCE_SECONDS)
    _await_none(store)
    trained.victims[victim] += 1
    trained.stages[stage] += 1
    said = log.read_bytes()[start:].decode(errors="replace")
    trained.resumed += said.count("resumed at step")
    say(f"killed {victim} during {stage}, {wait:.1f} s after the start")
    if victim == "run":
        return True
    require(process.returncode == 0, "a run does not get over it", said)
    return False


def _await(
    process: subprocess.Popen[bytes], store: Path, seconds: float, victim: str, before: int | None
) -> tuple[int | None, bool]:
    """Process to kill, once the time has come, there is one, and (if asked) the run has got on."""
    began = time.monotonic()
    while time.monotonic() < began + PATIENCE_SECONDS:
        if process.poll() is not None:
            require(process.returncode == 0, f"a run ended with {process.returncode} by itself")
            return None, True
        ready = time.monotonic() > began + seconds and (before is None or _progress(store) > before)
        pid = _find(process.pid, store, victim) if ready else None
        if pid is not None:
            return pid, True
        time.sleep(0.02)
    return None, False


def _find(run: int, store: Path, victim: str) -> int | None:
    if victim == "run":
        return run
    found = _processes(store)
    guards = [pid for pid in found if "guard.py" in found[pid][0]]
    launchers = [pid for pid in found if pid not in guards and found[pid][1] in guards]
    ranks = [pid for pid in found if _is_rank(pid)]
    chosen = {"guard": guards, "launcher": launchers, "rank": ranks}[victim]
    return chosen[-1] if chosen else None


def _processes(store: Path) -> dict[int, tuple[str, int]]:
    """Command and parent of each process of the store's attempts."""
    found = {}
    for pid in attempt_processes(store):
        path = Path(f"/proc/{pid}")
        with suppress(OSError):
            parent = int((path / "stat").read_text().rpartition(")")[2].split()[1])
            found[pid] = ((path / "cmdline").read_text().replace("\0", " "), parent)
    return found


def _is_rank(pid: int) -> bool:
    try:
        return any(
            part.startswith(b"LOCAL_RANK=") for part in Path(f"/proc/{pid}/environ").read_bytes().split(b"\0")
        )
    except OSError:
        return False


def _await_none(store: Path) -> None:
    deadline = time.monotonic() + 30
    while (left := _processes(store)) and time.monotonic() < deadline:
        time.sleep(0.05)
    require(not left, "processes survive", left)


def _progress(store: Path) -> int:
    """Grows with each result and with each complete checkpoint that was ever written."""
    actions = len(list((store / "actions").glob("*/*.json")))
    complete = (store / "work").glob("*/attempts/*/checkpoints/step-*/COMPLETE.json")
    steps = [int(path.parent.name[5:]) for path in complete]
    return actions * 10_000 + max(steps, default=0)


def _running(store: Path) -> str:
    """Stage that runs now."""
    for path in (store / "work").glob("*/attempts/*/status.json"):
        try:
            status = json.loads(path.read_bytes())
        except (OSError, ValueError):
            continue
        if status["state"] == "running":
            return str(status["stage"])
    return "no stage"


def _outputs(document: str) -> dict[str, dict[str, str]]:
    return {stage["stage"]: stage["outputs"] for stage in json.loads(document)["stages"]}
