"""Starts ranks of stages by fork, so that training libraries are imported once for hundreds of launches.

One JSON object a line on stdin asks for a launch, one a line on stdout answers. A launch runs the stage's
own ``main`` in one process a rank, which meet over gloo as under the launcher.
"""

from __future__ import annotations

import importlib
import json
import os
import signal
import socket
import sys
import threading
import time
import traceback
from pathlib import Path
from typing import Any

from mutations import MUTATIONS
from rlhfc.stages.common.job import run_stage

PATIENCE = 60.0  # seconds that the other ranks have to end by themselves when one has failed
KINDS = ("data_split", "sft", "reward", "reference", "dpo", "engine_init", "ppo")


def free_port() -> int:
    """A port that nobody listens on now."""
    with socket.socket() as listener:
        listener.bind(("127.0.0.1", 0))
        return int(listener.getsockname()[1])


def kill_at(step: int, checkpoint: Path | None) -> None:
    """Kill the whole launch when rank 0 tells of ``step``, once ``checkpoint`` is complete."""
    from rlhfc.stages.common import metrics

    write = metrics.Metrics.write

    def fatal(self: metrics.Metrics, *, step: int, **values: object) -> None:
        write(self, step=step, **values)
        if values["phase"] == "train" and step == kill and os.environ["RANK"] == "0":
            deadline = time.monotonic() + 20
            while checkpoint is not None and not checkpoint.exists() and time.monotonic() < deadline:
                time.sleep(0.005)
            os.killpg(0, signal.SIGKILL)

    kill = step
    metrics.Metrics.write = fatal  # type: ignore[method-assign]


def tell_resume() -> None:
    """Have rank 0 say in its log where it resumes."""
    from rlhfc.stages.common import metrics

    make = metrics.Metrics.__init__

    def telling(self: metrics.Metrics, path: Path | None, resumed_at: int = 0) -> None:
        make(self, path, resumed_at)
        if os.environ["RANK"] == "0":
            print(f"\nresumed at {resumed_at}", flush=True)

    metrics.Metrics.__init__ = telling  # type: ignore[method-assign]


def stage_of(kind: str) -> tuple[Any, Any, Any]:
    """Kind, parameters and entry of a stage."""
    entry = importlib.import_module(f"rlhfc.stages.{kind}.main")
    home = f"rlhfc.stages.{kind}.kind"
    names = [name for name, value in vars(entry).items() if getattr(value, "__module__", "") == home]
    (params,) = (vars(entry)[name] for name in names if name.endswith("Params"))
    return entry.KIND, params, entry.main


def become_rank(ask: dict, rank: int, port: int) -> None:
    """Be one rank of a launch; never returns."""
    log = os.open(ask["log"], os.O_WRONLY | os.O_CREAT | os.O_APPEND)
    os.dup2(log, 1)
    os.dup2(log, 2)
    os.environ |= {
        "RANK": str(rank),
        "LOCAL_RANK": str(rank),
        "WORLD_SIZE": str(ask["ranks"]),
        "LOCAL_SIZE": str(ask["ranks"]),
        "MASTER_ADDR": "127.0.0.1",
        "MASTER_PORT": str(port),
    }
    status = 1
    try:
        tell_resume()
        if ask["kill_at"] is not None:
            kill_at(ask["kill_at"], ask["after"] and Path(ask["after"]))
        for name in ask["mutations"]:
            MUTATIONS[name]()
        sys.argv = ["main", "--config", ask["config"]]
        run_stage(*stage_of(ask["kind"]))
    except SystemExit as end:
        status = int(end.code or 0)
    except BaseException:
        traceback.print_exc()
    threading._shutdown()  # type: ignore[attr-defined] # what a process does at its end, and `_exit` does not
    sys.stdout.flush()
    sys.stderr.flush()
    os._exit(status)


def launch(ask: dict) -> dict:
    """Run all ranks to their end; statuses, below zero the signal."""
    port, children = free_port(), []
    for rank in range(ask["ranks"]):
        child = os.fork()
        if not child:
            os.setpgid(0, children[0] if children else 0)
            become_rank(ask, rank, port)
        os.setpgid(child, children[0] if children else child)
        children.append(child)
    statuses: dict[int, int] = {}
    deadline = None
    while len(statuses) < len(children):
        child, ended = os.waitpid(-children[0], os.WNOHANG)
        if child:
            statuses[child] = os.waitstatus_to_exitcode(ended)
            if statuses[child] != 0 and deadline is None:
                deadline = time.monotonic() + PATIENCE
        elif deadline is not None and time.monotonic() > deadline:
            os.killpg(children[0], signal.SIGKILL)
        else:
            time.sleep(0.005)
    return {"statuses": [statuses[child] for child in children]}


def main() -> None:
    """Import, then launch what is asked for until stdin ends."""
    for kind in KINDS:
        importlib.import_module(f"rlhfc.stages.{kind}.main")
    assert threading.active_count() == 1, "a process with threads must not fork"
    answers = os.fdopen(os.dup(1), "w")
    for line in sys.stdin:
        print(json.dumps(launch(json.loads(line))), file=answers, flush=True)


if __name__ == "__main__":
    main()
