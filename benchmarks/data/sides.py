"""One side of `bench.py`: `split` or `map` over a file; prints seconds and bytes as JSON."""

from __future__ import annotations

import json
import os
import sys
import threading
import time
from pathlib import Path

os.environ["HF_DATASETS_OFFLINE"] = os.environ["HF_HUB_OFFLINE"] = "1"

import datasets
from rlhfc.stages.common.job import InputPath, load_job
from rlhfc.stages.common.rendering import Renderer, install_template
from rlhfc.stages.common.tokenizers import load_tokenizer
from rlhfc.stages.data_split.kind import KIND, DataSplitParams
from rlhfc.stages.data_split.main import main as split_main

PORTS = ("sft", "reward", "prompts", "heldout", "report")
ROUND = 0.05  # seconds between two looks at the memory


class Peak(threading.Thread):
    """Highest private resident memory of this process and its children; file pages are the system's."""

    def __init__(self) -> None:
        super().__init__(daemon=True)
        self.start_bytes = self.bytes = private()

    def run(self) -> None:
        """Look again and again."""
        while True:
            self.bytes = max(self.bytes, private())
            time.sleep(ROUND)


def private() -> int:
    """Bytes of anonymous memory, children included."""
    me, total = os.getpid(), 0
    for pid in [me, *children(me)]:
        try:
            status = Path(f"/proc/{pid}/status").read_text()
        except OSError:
            continue
        total += sum(
            int(line.split()[1]) * 1024 for line in status.splitlines() if line.startswith("RssAnon")
        )
    return total


def children(pid: int) -> list[int]:
    """Processes that this one has started."""
    found = []
    for path in Path(f"/proc/{pid}/task").glob("*/children"):
        try:
            found += [int(child) for child in path.read_text().split()]
        except OSError:
            continue
    return found


def split(data: Path, model: Path, work: Path, workers: int) -> None:
    """The stage, as the executor starts it."""
    attempt = work / "attempt"
    attempt.mkdir()
    for port in PORTS:
        (work / port).mkdir()
    columns = {"prompt": "prompt", "chosen": "chosen", "rejected": "rejected"}
    config = {
        "format": 1,
        "pipeline": "bench",
        "stage": "split",
        "kind": "data_split",
        "action_key": "b3:0",
        "params": {
            "tokenizer": "tokenizer",
            "sources": [{"data": "sources.0.data", "columns": columns}],
            "template": "human_assistant",
            "parts": [0, 1, 0],
            "max_tokens": 4096,
            "max_prompt_tokens": 2048,
            "workers": workers,
        },
        "settings": {},
        "inputs": {
            "tokenizer": {"path": str(model), "file": None},
            "sources.0.data": {"path": str(data.parent), "file": data.name},
        },
        "outputs": {port: str(work / port) for port in PORTS},
        "deepspeed": {},
        "batch": None,
        "paths": {
            "work": str(work),
            "attempt": str(attempt),
            "checkpoints": str(work / "checkpoints"),
            "metrics": str(work / "metrics.jsonl"),
            "manifest": str(attempt / "outputs.json"),
        },
    }
    (attempt / "config.json").write_text(json.dumps(config))
    split_main(load_job(KIND, DataSplitParams, attempt / "config.json"))


def mapped(data: Path, model: Path, work: Path, workers: int) -> None:
    """`datasets.map`, with the same rendering."""
    tokenizer = load_tokenizer(InputPath(model))
    install_template(tokenizer, "human_assistant")

    def ids(batch: dict[str, list[str]]) -> dict[str, list[list[int]]]:
        talks = [[{"role": "user", "content": prompt}] for prompt in batch["prompt"]]
        answers = [list(pair) for pair in zip(batch["chosen"], batch["rejected"], strict=True)]
        rows = Renderer(tokenizer).render(talks, answers)
        return dict(zip(("p", "c", "r"), map(list, zip(*rows, strict=True)), strict=True))

    rows = datasets.load_dataset("json", data_files=str(data), split="train", cache_dir=str(work))
    rows.map(ids, batched=True, num_proc=workers if workers > 1 else None, remove_columns=rows.column_names)


def main() -> None:
    """Run the side that is named."""
    which, data, model, work, workers = sys.argv[1:]
    datasets.disable_progress_bars()
    peak = Peak()
    peak.start()
    started = time.monotonic()
    {"split": split, "map": mapped}[which](Path(data), Path(model), Path(work), int(workers))
    seconds = time.monotonic() - started
    print(json.dumps({"seconds": seconds, "bytes": peak.bytes - peak.start_bytes}))


if __name__ == "__main__":
    main()
