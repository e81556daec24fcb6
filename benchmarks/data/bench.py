"""How fast `data_split` makes token files, and in how much memory, against `datasets.map`.

    make bench-data

Both read the same JSON Lines, render the same chat template with the same tokenizer, and write the ids of
prompt, chosen and rejected to disk. `data_split` also splits, drops repetitions, compares with the held-out
prompts and reports; `datasets.map` does nothing else. Each run is a process of its own, in turn; times are
medians, memory is the peak of resident private memory over that of the process before its first record.
"""

from __future__ import annotations

import argparse
import json
import os
import platform
import random
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path

HERE = Path(__file__).resolve().parent
MODEL = HERE.parents[1] / "examples" / "quickstart" / "model"
WORDS = "once upon a time there was cat that sat on the mat and said to dog we go home now".split()  # noqa: SIM905


def main() -> None:
    """Measure, and print a table for the documentation."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--rows", type=int, nargs="*", default=[20_000, 80_000])
    parser.add_argument("--times", type=int, default=3)
    parser.add_argument("--workers", type=int, nargs="*", default=[1, 2])
    given = parser.parse_args()
    print(f"{platform.machine()}, {os.cpu_count()} cores, Python {platform.python_version()}\n")
    print("| rows | text | processes | data_split | datasets.map | ratio | memory | memory of map |")
    print("|---|---|---|---|---|---|---|---|")
    with tempfile.TemporaryDirectory(dir=os.environ.get("RLHFC_BENCH_DIR")) as name:
        for rows in given.rows:
            data = write_rows(Path(name) / f"{rows}.jsonl", rows)
            for workers in given.workers:
                print(line(Path(name), data, rows, workers, given.times), flush=True)


def write_rows(path: Path, count: int) -> Path:
    """Pairs of some 900 bytes, no two alike."""
    draw = random.Random(1)

    def text(length: int) -> str:
        return " ".join(draw.choices(WORDS, k=length))

    with path.open("w", encoding="utf-8") as stream:
        for number in range(count):
            row = {"prompt": f"{text(40)} {number}?", "chosen": text(80), "rejected": text(80)}
            stream.write(json.dumps(row) + "\n")
    return path


def line(work: Path, data: Path, rows: int, workers: int, times: int) -> str:
    """A row of the table."""
    found: dict[str, list[dict[str, float]]] = {"split": [], "map": []}
    for _ in range(times):
        for which in found:
            found[which].append(measured(work, which, data, workers))
    speed = {which: rows / statistics.median(run["seconds"] for run in runs) for which, runs in found.items()}
    memory = {which: statistics.median(run["bytes"] for run in runs) for which, runs in found.items()}
    megabytes = data.stat().st_size / 1e6
    return (
        f"| {rows:,} | {megabytes:.0f} MB | {workers} | {speed['split']:,.0f} rows/s | "
        f"{speed['map']:,.0f} rows/s | {speed['split'] / speed['map']:.2f} | "
        f"{memory['split'] / 1e6:.0f} MB | {memory['map'] / 1e6:.0f} MB |"
    )


def measured(work: Path, which: str, data: Path, workers: int) -> dict[str, float]:
    """Seconds and bytes of one run in a process of its own."""
    with tempfile.TemporaryDirectory(dir=work) as folder:
        command = [sys.executable, str(HERE / "sides.py"), which, str(data), str(MODEL), folder, str(workers)]
        done = subprocess.run(command, capture_output=True, text=True, check=True)
    found: dict[str, float] = json.loads(done.stdout.splitlines()[-1])
    time.sleep(0.5)
    return found


if __name__ == "__main__":
    main()
