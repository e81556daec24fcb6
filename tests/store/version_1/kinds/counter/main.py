"""Entry of the kind: steps with metrics and checkpoints, one output, the manifest last."""

import json
import sys
import time
from pathlib import Path

config = json.loads(Path(sys.argv[sys.argv.index("--config") + 1]).read_text())
paths = {name: Path(path) for name, path in config["paths"].items()}
out, total = Path(config["outputs"]["thing"]), config["params"]["steps"]
done = sorted(paths["checkpoints"].glob("step-*/COMPLETE.json"))
first = json.loads(done[-1].read_text())["step"] if done else 0

for step in range(first + 1, total + 1):
    time.sleep(config["params"]["step_seconds"])
    with paths["metrics"].open("a") as stream:
        stream.write(json.dumps({"step": step, "total": total, "phase": "train", "loss": 1 / step}) + "\n")
    folder = paths["checkpoints"] / f"step-{step:06d}"
    folder.mkdir()
    (folder / "state").write_text(str(step))
    files = [{"path": "state", "size": len(str(step))}]
    record = {"step": step, "total": total, "ranks": 1, "zero_stages": {}, "files": files}
    (folder / "COMPLETE.json").write_text(json.dumps(record))
    if paths["stop_file"].exists() and step < total:
        sys.exit(75)

read = (Path(config["inputs"]["data"]["path"]) / "data.txt").read_text() if config["inputs"] else ""
(out / "part").mkdir()
(out / "data.txt").write_text(f"{config['stage']}({read})")
(out / "part" / "same.txt").write_text("in every artefact")
sizes = [(path, (out / path).stat().st_size) for path in ("data.txt", "part/same.txt")]
manifest = {
    "format": 1,
    "action_key": config["action_key"],
    "step": total,
    "total": total,
    "ports": {"thing": [{"path": path, "size": size} for path, size in sizes]},
    "summary": {"steps": total},
}
paths["manifest"].write_text(json.dumps(manifest))
