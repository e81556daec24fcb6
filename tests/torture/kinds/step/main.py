"""Entry of the torture kind: steps with checkpoints, then two files made of what it read.

``LAB_TRACE`` names a file that gets a line for everything it does. ``LAB_KILL`` is
``stage:what:victim``: when the stage comes to ``what`` for the first time ever, it kills its victim
(``stage``, ``guard`` or ``run``).
"""

from __future__ import annotations

import json
import os
import shutil
import signal
import sys
import time
from pathlib import Path

from blake3 import blake3

CONFIG = json.loads(Path(sys.argv[sys.argv.index("--config") + 1]).read_text())
PARAMS, PATHS = CONFIG["params"], {name: Path(path) for name, path in CONFIG["paths"].items()}
OUT, TOTAL = Path(CONFIG["outputs"]["thing"]), CONFIG["params"]["steps"]


def comes_to(what: str) -> None:
    """Leave a line, and kill who is to be killed here."""
    if "LAB_TRACE" in os.environ:
        with Path(os.environ["LAB_TRACE"]).open("a") as stream:
            stream.write(f"{CONFIG['stage']} {CONFIG['action_key']} {what}\n")
    stage, when, victim = os.environ.get("LAB_KILL", "::").split(":")
    if (stage, when) != (CONFIG["stage"], what):
        return
    try:
        Path(os.environ["LAB_TRACE"] + ".killed").touch(exist_ok=False)
    except FileExistsError:
        return
    guard = os.getppid()
    run = int(Path(f"/proc/{guard}/stat").read_text().rpartition(")")[2].split()[1])
    os.kill({"stage": os.getpid(), "guard": guard, "run": run}[victim], signal.SIGKILL)
    time.sleep(60)  # who is to die with its run or guard must die here, and be seen if it does not


def write(path: Path, text: str) -> None:
    """Write a file durably, all of it or nothing."""
    draft = path.with_name(f".{path.name}.draft")
    with draft.open("w") as stream:
        stream.write(text)
        stream.flush()
        os.fsync(stream.fileno())
    draft.replace(path)


def resume() -> int:
    """Step of the newest complete checkpoint; what was said of later ones is dropped."""
    found = sorted(PATHS["checkpoints"].glob("step-*/COMPLETE.json"))
    step = json.loads(found[-1].read_text())["step"] if found else 0
    if PATHS["metrics"].exists():
        lines = PATHS["metrics"].read_text().splitlines()
        kept = [line for line in lines if line.endswith("}") and json.loads(line)["step"] <= step]
        write(PATHS["metrics"], "".join(f"{line}\n" for line in kept))
    return step


def save(step: int) -> None:
    """Save a step; what a killed stage left of the same step is made anew."""
    folder = PATHS["checkpoints"] / f"step-{step:06d}"
    shutil.rmtree(folder, ignore_errors=True)
    folder.mkdir()
    state = f"state of {step}".encode()
    (folder / "state").write_bytes(state)
    listed = {"path": "state", "size": len(state), "digest": f"b3:{blake3(state).hexdigest()}"}
    record = {"format": 3, "step": step, "total": TOTAL, "ranks": 1, "zero_stages": {}}
    write(folder / "COMPLETE.json", json.dumps({**record, "key": CONFIG["action_key"], "files": [listed]}))


def work() -> None:
    """Take the steps that are left."""
    for step in range(resume() + 1, TOTAL + 1):
        comes_to(f"step-{step}")
        time.sleep(PARAMS["step_seconds"])
        with PATHS["metrics"].open("a") as stream:
            line = {"step": step, "total": TOTAL, "phase": "train", "loss": 1 / step}
            stream.write(json.dumps(line) + "\n")
        if TOTAL > 1:
            save(step)
            comes_to(f"saved-{step}")
        if PATHS["stop_file"].exists() and step < TOTAL:
            sys.exit(75)


def content() -> str:
    """What is made: the value and everything that was read."""
    read = []
    for name in ("left", "right", "data"):
        if (place := CONFIG["inputs"].get(name)) is not None:
            read.append((Path(place["path"]) / (place["file"] or "text")).read_text())
    return f"{PARAMS['value']}({','.join(read)})"


def main() -> None:
    """Steps, outputs, manifest."""
    comes_to("starts")
    work()
    text = content()
    (OUT / "below").mkdir(exist_ok=True)
    (OUT / "text").write_text(text)
    comes_to("half")
    (OUT / "below" / "length.json").write_text(str(len(text)))
    comes_to("written")
    found = sorted(path for path in OUT.rglob("*") if path.is_file())
    files = [{"path": path.relative_to(OUT).as_posix(), "size": path.stat().st_size} for path in found]
    manifest = {"format": 1, "action_key": CONFIG["action_key"], "step": TOTAL, "total": TOTAL}
    ports = {"thing": files}
    write(PATHS["manifest"], json.dumps({**manifest, "ports": ports, "summary": {"length": len(text)}}))
    comes_to("ends")


main()
