"""Entry of the kind for real launches: rank 0 counts, saves and writes; the others wait for it."""

from __future__ import annotations

import json
import os
import sys
import time
from pathlib import Path

from rlhfc.stages.common.job import speak_into_own_log

CONFIG = json.loads(Path(sys.argv[sys.argv.index("--config") + 1]).read_text())
PATHS = {name: Path(path) for name, path in CONFIG["paths"].items()}
RANK, TOTAL = int(os.environ["RANK"]), CONFIG["params"]["steps"]
STATE = PATHS["checkpoints"] / "step-000001"


def write(path: Path, value: object) -> None:
    """Write a file, all of it or nothing."""
    draft = path.with_suffix(".draft")
    draft.write_text(json.dumps(value))
    draft.replace(path)


def save(step: int) -> None:
    """Save a step, in one folder that is written again and again."""
    STATE.mkdir(exist_ok=True)
    record = {"format": 3, "key": CONFIG["action_key"], "step": step, "total": TOTAL, "files": []}
    write(STATE / "COMPLETE.json", record)


def count() -> int:
    """Take the steps that are left; return the exit status."""
    found = STATE / "COMPLETE.json"
    if CONFIG["params"]["own_logs"]:
        speak_into_own_log()
    for step in range(json.loads(found.read_text())["step"] + 1 if found.exists() else 1, TOTAL + 1):
        time.sleep(CONFIG["params"]["step_seconds"])
        print(f"rank {RANK} step {step}", flush=True)
        if RANK == 0:
            save(step)
        if PATHS["stop_file"].exists() and step < TOTAL:
            return 75
    if RANK == 0:
        text = f"{os.environ['WORLD_SIZE']} ranks"
        (Path(CONFIG["outputs"]["thing"]) / "data.txt").write_text(text)
        listed = [{"path": "data.txt", "size": len(text)}]
        manifest = {"format": 1, "action_key": CONFIG["action_key"], "step": TOTAL, "total": TOTAL}
        write(PATHS["manifest"], {**manifest, "ports": {"thing": listed}, "summary": {}})
    return 0


sys.exit(count())
