"""How long a plan takes that finds nothing to do, against the bare interpreter and other tools.

    make bench-plan

Each figure is the median of several runs of the whole command, its ratio that to `python -c pass`
in the same run. All results are made up by `fill.py`; nothing is trained.
"""

from __future__ import annotations

import argparse
import os
import platform
import shutil
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Sequence
from pathlib import Path

from peers import CHAIN, PEERS, up_to_date

from rlhfc.compile.digests import CachedDigester
from rlhfc.store.digest import file_digest

HERE = Path(__file__).resolve().parent
ROOT = HERE.parents[1]
QUICKSTART = ROOT / "pipelines" / "quickstart.yaml"
RLHFC = str(Path(sys.executable).with_name("rlhfc"))
SETTLE_SECONDS = 2.2  # time stamps younger than two seconds are not believed
GIB = 2**30
HASHED_GIB = 4  # stays in memory, so that the disk is not what is measured


def main() -> None:
    """Measure, and print a table for the documentation."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--times", type=int, default=30, help="runs of each quick command")
    parser.add_argument("--gigabytes", type=int, default=100, help="size of the sparse input")
    parser.add_argument("--stages", type=int, nargs="*", default=[100, 1000, 10_000])
    given = parser.parse_args()
    with tempfile.TemporaryDirectory(dir=os.environ.get("RLHFC_BENCH_DIR")) as name:
        work = Path(name)
        rows = [("python -c pass", "", bare(given.times))]
        rows += commands(work, given.times)
        rows += sizes(work, given.stages, given.times)
        rows += peers(work, [7, *given.stages])
        rows += large_input(work, given.gigabytes, given.times)
        show(rows)
        print(f"\nhashing: {hashing(work, HASHED_GIB):.2f} of bare BLAKE3's speed")


def bare(times: int) -> float:
    """The floor: the interpreter of this environment, doing nothing."""
    return median([sys.executable, "-c", "pass"], times)


def commands(work: Path, times: int) -> list[tuple[str, str, float]]:
    """The seven stages of the quickstart: known, edited, and what needs no pipeline."""
    store = ["--store", str(work / "quickstart")]
    fill(QUICKSTART, work / "quickstart")
    plan = [RLHFC, "plan", str(QUICKSTART), *store]
    edits = iter(range(10**6))

    def edited() -> list[str]:
        return [*plan, "--set", f"ppo.kl_coef=0.2{next(edits):06d}"]

    return [
        ("rlhfc plan, nothing to do", "7", median(plan, times)),
        ("rlhfc plan, after an edit", "7", median(edited, max(5, times // 3))),
        ("rlhfc --help", "", median([RLHFC, "--help"], times)),
    ]


def sizes(work: Path, counts: Sequence[int], times: int) -> list[tuple[str, str, float]]:
    """Pipelines of any size with nothing to do."""
    rows = []
    for count in counts:
        spec = work / f"stages{count}.yaml"
        spec.write_text(chains(count), encoding="utf-8")
        (work / "rows.jsonl").write_text("{}\n")
        fill(spec, work / spec.stem)
        plan = [RLHFC, "plan", str(spec), "--store", str(work / spec.stem)]
        rows.append(("rlhfc plan, nothing to do", f"{count:,}", median(plan, max(5, times // 3))))
    return rows


def chains(stages: int) -> str:
    """A spec of chains; every stage has a key of its own."""
    lines = ["schema: 1", f"kinds: [{HERE / 'kinds'}]", "stages:"]
    for number in range(stages):
        source = "{path: rows.jsonl}" if number % CHAIN == 0 else f"s{number - 1}.out"
        lines.append(f"  s{number}: {{kind: step, seed: {number}, source: {source}}}")
    return "\n".join(lines) + "\n"


def fill(spec: Path, store: Path) -> None:
    """Make results up for every stage, and have the plan made once."""
    subprocess.run([sys.executable, HERE / "fill.py", spec, "--store", store], check=True)
    time.sleep(SETTLE_SECONDS)
    done = subprocess.run([RLHFC, "plan", spec, "--store", store, "--detailed-exitcode"], capture_output=True)
    assert done.returncode == 0, done.stderr.decode()


def peers(work: Path, counts: Sequence[int]) -> list[tuple[str, str, float]]:
    """Other tools, where they are installed, up to the size that takes them seconds."""
    if "RLHFC_BENCH_BIN" not in os.environ:
        print("no peers: `make bench-plan` installs them", file=sys.stderr)
        return []
    rows = []
    for peer in PEERS:
        for count in counts:
            if count <= peer.largest:
                folder = work / f"{peer.name.split()[0]}{count}"
                command = up_to_date(peer, folder, count)
                rows.append((peer.name, f"{count:,}", median(command, 5, folder)))
    return rows


def median(command: Sequence[str] | Callable[[], Sequence[str]], times: int, folder: Path = ROOT) -> float:
    """Median wall time of a whole command in seconds."""
    taken = []
    for _ in range(times):
        given = command() if callable(command) else command
        began = time.perf_counter()
        subprocess.run(given, cwd=folder, check=True, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
        taken.append(time.perf_counter() - began)
    return statistics.median(taken)


def show(rows: Sequence[tuple[str, str, float]]) -> None:
    """A table in Markdown."""
    floor = rows[0][2]
    print(f"{platform.machine()}, {os.cpu_count()} CPUs, Python {platform.python_version()}\n")
    print("| command | stages | time | by `python -c pass` |\n|---|---|---|---|")
    for command, stages, seconds in rows:
        print(f"| `{command}` | {stages} | {1000 * seconds:.0f} ms | {seconds / floor:.1f} |")


def large_input(work: Path, gigabytes: int, times: int) -> list[tuple[str, str, float]]:
    """A plan over large inputs that are unchanged; sparse files stand for them."""
    sparse(work / "large", gigabytes)
    spec = work / "large.yaml"
    source = "{path: large}"
    kinds = f"kinds: [{HERE / 'kinds'}]"
    spec.write_text(f"schema: 1\n{kinds}\nstages:\n  s0: {{kind: step, source: {source}}}\n")
    fill(spec, work / "of-large")
    plan = [RLHFC, "plan", str(spec), "--store", str(work / "of-large")]
    edits = iter(range(10**6))
    rows = [
        (f"rlhfc plan, {gigabytes} GiB of unchanged inputs", "1", median(plan, times)),
        (
            f"rlhfc plan, {gigabytes} GiB of unchanged inputs, after an edit",
            "1",
            median(lambda: [*plan, "--set", f"s0.rate=0.2{next(edits):06d}"], 5),
        ),
    ]
    shutil.rmtree(work / "large")
    return rows


def hashing(work: Path, gigabytes: int) -> float:
    """Speed of our hashing of a folder, by that of bare BLAKE3 with as many threads; of five rounds each."""
    folder = work / "hashed"
    sparse(folder, gigabytes)
    plain, ours = [], []
    for _ in range(6):
        plain.append(timed(lambda: [file_digest(path) for path in sorted(folder.iterdir())]))
        ours.append(timed(lambda: CachedDigester().folder(folder)))
    shutil.rmtree(folder)
    return statistics.median(plain[1:]) / statistics.median(ours[1:])  # the first filled the page cache


def sparse(folder: Path, gigabytes: int) -> None:
    """Four files of zeros that take no room."""
    folder.mkdir()
    for number in range(4):
        with (folder / f"part{number}.jsonl").open("wb") as stream:
            stream.truncate(gigabytes * GIB // 4)


def timed(work: Callable[[], object]) -> float:
    """Seconds that it takes."""
    began = time.perf_counter()
    work()
    return time.perf_counter() - began


if __name__ == "__main__":
    main()
