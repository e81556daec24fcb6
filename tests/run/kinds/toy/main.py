"""Entry of the toy kind: steps, metrics, checkpoints, a manifest; and every way to go wrong."""

from __future__ import annotations

import faulthandler
import json
import os
import signal
import struct
import subprocess
import sys
import time
import zlib
from pathlib import Path

from blake3 import blake3

CONFIG = json.loads(Path(sys.argv[sys.argv.index("--config") + 1]).read_text())
PARAMS, PATHS = CONFIG["params"], {name: Path(path) for name, path in CONFIG["paths"].items()}
OUT = Path(CONFIG["outputs"]["thing"])
DEAF = ("deaf", "exits_zero_when_told")
if int(PATHS["attempt"].name) > PARAMS["first"]:
    PARAMS["behave"] = "well"


def trace(what: str) -> None:
    """Leave a line for the test."""
    if "TOY_TRACE" in os.environ:
        with Path(os.environ["TOY_TRACE"]).open("a") as stream:
            stream.write(f"{CONFIG['stage']} {what} {time.monotonic()}\n")


def write(path: Path, text: str) -> None:
    """Write a file durably, all of it or nothing."""
    draft = path.with_suffix(".draft")
    draft.write_text(text)
    draft.replace(path)


def resume() -> int:
    """Return the step of the newest complete checkpoint, and cut the metrics back to it."""
    found = sorted(PATHS["checkpoints"].glob("step-*/COMPLETE.json"))
    step = json.loads(found[-1].read_text())["step"] if found else 0
    if PATHS["metrics"].exists():
        lines = PATHS["metrics"].read_text().splitlines()
        kept = [line for line in lines if line.endswith("}") and json.loads(line)["step"] <= step]
        write(PATHS["metrics"], "".join(f"{line}\n" for line in kept))
    return step


def checkpoint(step: int) -> None:
    """Save a step."""
    folder = PATHS["checkpoints"] / f"step-{step:06d}"
    folder.mkdir(exist_ok=True)
    state = str(step).encode()
    (folder / "state").write_bytes(state)
    digest = f"b3:{blake3(state).hexdigest()}"
    record = {
        "format": 3,
        "key": CONFIG["action_key"],
        "step": step,
        "total": PARAMS["steps"],
        "files": [{"path": "state", "size": len(state), "digest": digest}],
    }
    text = json.dumps(record, sort_keys=True, separators=(",", ":"), ensure_ascii=False)
    write(folder / "COMPLETE.json", json.dumps({**record, "crc": f"{zlib.crc32(text.encode()):08x}"}))


def work() -> None:
    """Take the steps that are left."""
    total = PARAMS["steps"]
    for step in range(resume() + 1, total + 1):
        trace(f"step-{step}")
        time.sleep(PARAMS["step_seconds"])
        with PATHS["metrics"].open("a") as stream:
            stream.write(
                json.dumps({"step": step, "total": total, "phase": "train", "loss": 1 / step}) + "\n"
            )
        misbehave_within(step)
        if step % PARAMS["checkpoint_every"] == 0:
            checkpoint(step)
        if PATHS["stop_file"].exists() and PARAMS["behave"] not in DEAF and step < total:
            sys.exit(75)


def misbehave_within(step: int) -> None:
    """Go wrong between two checkpoints."""
    match PARAMS["behave"]:
        case "killed" if step % 2 == 0:
            os.kill(os.getpid(), signal.SIGKILL)
        case "silent" if step == 2:
            faulthandler.register(signal.SIGUSR1)
            hang_in_a_collective()
        case "mute" if step == 2:
            time.sleep(1000)
        case "lost_peer" if step == 2:
            print("Traceback (most recent call last):\n  File ...", file=sys.stderr)
            print("torch.distributed.DistBackendError: NCCL error: remote process exited", file=sys.stderr)
            sys.exit(1)
        case "slow_save":
            signal.signal(signal.SIGTERM, lambda number, frame: trace("is-told-to-end"))
            if PATHS["stop_file"].exists():
                deadline = time.monotonic() + 3.0
                while time.monotonic() < deadline:
                    time.sleep(0.05)
                trace("has-saved")


def hang_in_a_collective() -> None:
    """Stand still, as ranks do that wait for one another."""
    time.sleep(1000)


def content() -> str:
    """What this stage makes: its value and what it read."""
    read = [CONFIG["inputs"][name] for name in ("left", "right") if name in CONFIG["inputs"]]
    texts = [(Path(place["path"]) / "data.txt").read_text() for place in read]
    return "constant" if PARAMS["constant"] else f"{PARAMS['value']}({','.join(texts)})"


def tell(secret: str) -> None:
    """Print a secret in every way that a careless stage might."""
    print(f"whole: {secret}.", flush=True)
    for part in (f"in parts: {secret[:7]}", secret[7:], ".\n"):
        sys.stderr.write(part)
        sys.stderr.flush()
        time.sleep(0.05)
    subprocess.run(
        [sys.executable, "-c", "import os; print('a child:', os.environ['TOY_SECRET'])"], check=True
    )
    print(f"three times: {secret}{secret}{secret}.")
    print("begins like it: " + secret[:7], end="", flush=True)


def misbehave_before() -> None:
    """Go wrong before the work is done."""
    match PARAMS["behave"]:
        case "fail":
            print("[2026-01-01 00:00:00,000] [INFO] [launch.py:1:main] noise of the launcher")
            sys.stdout.buffer.write(b"bytes that are not UTF-8: \xff\xfe\n")
            print("\n".join(f"line {n}" for n in range(30)))
            sys.exit(3)
        case "user_error":
            print("Traceback (most recent call last):\n  noise", file=sys.stderr)
            print("error: column `x` is missing hint: map it with `columns`", file=sys.stderr)
            sys.exit(65)
        case "lie":
            sys.exit(0)
        case "family":
            ignore = "import signal, time; signal.signal(15, signal.SIG_IGN); time.sleep(1000)"
            subprocess.Popen([sys.executable, "-c", ignore], start_new_session=True)
        case "tell" | "tell_survivor":
            tell(os.environ["TOY_SECRET"])
        case "tell_all":
            print("\n".join(f"{name}={value}" for name, value in sorted(os.environ.items())))
        case "shout":
            line = b"\xff\xfe" + b"x" * 998 + b"\n"
            for _ in range(200):
                sys.stdout.buffer.write(line * 1000)
        case "full":
            write(PATHS["attempt"] / "note", "x")
            print("error: OSError: [Errno 28] No space left on device: 'state'", file=sys.stderr)
            sys.exit(74)
        case "exits_zero_when_told":
            signal.signal(signal.SIGTERM, lambda number, frame: os._exit(0))
        case "hang":
            signal.signal(signal.SIGTERM, signal.SIG_IGN)
            trace("hangs")
            time.sleep(1000)


def misbehave_after() -> None:
    """Go wrong with the outputs, or leave something running."""
    match PARAMS["behave"]:
        case "survivor" | "escapee":
            subprocess.Popen(
                [sys.executable, "-c", "import time; time.sleep(1000)"],
                start_new_session=PARAMS["behave"] == "escapee",
            )
        case "tell_survivor":
            command = [sys.executable, "-c", "import time; time.sleep(1000)", os.environ["TOY_SECRET"]]
            subprocess.Popen(command)
        case "symlink":
            (OUT / "link").symlink_to("/etc/hostname")
        case "unlisted":
            (OUT / "unlisted").write_text("x")
        case "not_utf8":
            Path(os.fsdecode(os.fsencode(OUT) + b"/\xff")).write_text("x")
        case "short":
            (OUT / "data.txt").write_text("")
        case "touch_input":
            (Path(CONFIG["inputs"]["left"]["path"]) / "data.txt").write_text("changed")
        case "edit_code":
            Path(__file__).write_text(Path(__file__).read_text() + "\nEDITED = True\n")


def fit_into_memory() -> None:
    """Fail as a stage does whose micro-batch is too large."""
    trace(f"has-{PARAMS['micro_batch_size']}-rows")
    if PARAMS["micro_batch_size"] > PARAMS["fits"]:
        print("torch.OutOfMemoryError: CUDA out of memory.", file=sys.stderr)
        sys.exit(76)


def main() -> None:
    """Do as the parameters say."""
    trace("starts")
    if PARAMS["fits"] < 8:
        fit_into_memory()
    misbehave_before()
    work()
    (OUT / "data.txt").write_text(content())
    if PARAMS["behave"] == "torn_tensors":
        header = json.dumps({"w": {"dtype": "F32", "shape": [2], "data_offsets": [0, 8]}}).encode()
        (OUT / "model.safetensors").write_bytes(struct.pack("<Q", len(header)) + header + b"1234")
    if PARAMS["behave"] == "odd_names":
        (OUT / "a b\nc ü").write_text("odd")
    if PARAMS["behave"] == "link_input":
        os.link(Path(CONFIG["inputs"]["left"]["path"]) / "data.txt", OUT / "linked.txt")
    found = sorted(path for path in OUT.rglob("*") if path.is_file())
    files = [{"path": path.relative_to(OUT).as_posix(), "size": path.stat().st_size} for path in found]
    misbehave_after()
    manifest = {
        "format": 1,
        "action_key": CONFIG["action_key"],
        "step": PARAMS["steps"],
        "total": PARAMS["steps"],
        "ports": {"thing": files},
        "summary": {"value": PARAMS["value"]},
    }
    write(PATHS["manifest"], json.dumps(manifest))
    trace("ends")
    if PARAMS["behave"] == "lingers":
        time.sleep(1000)


main()
