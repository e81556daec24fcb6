"""Kill and resume every kind under every ZeRO stage, number of ranks and type, and compare the bytes.

``make resume-matrix`` runs it whole; words on the command line choose cases by parts of their names.
"""

from __future__ import annotations

import sys
import tempfile
import time
from pathlib import Path

from workbench import Case, Workbench

KINDS, ZEROS, RANKS, TYPES = ("sft", "reward", "dpo", "ppo"), (0, 1, 2, 3), (1, 2), ("fp32", "bf16")
CASES = [
    Case(kind, zero, ranks, dtype) for kind in KINDS for dtype in TYPES for ranks in RANKS for zero in ZEROS
]


def verdict(bench: Workbench, case: Case) -> str:
    """``same`` when the outputs of the killed and resumed launch are those of one that was left alone."""
    whole, killed = f"{case}-whole", f"{case}-killed"
    if any(bench.launch(case, whole)):
        return "failed: " + bench.log(whole).strip().splitlines()[-1]
    if [-9] * case.ranks != bench.launch(case, killed, kill_at=3, after=2):
        return "was not killed"
    if any(bench.launch(case, killed)):
        return "failed to resume: " + bench.log(killed).strip().splitlines()[-1]
    if bench.resumed_at(killed) != 2:
        return "started over"
    return "same" if bench.outputs(whole) == bench.outputs(killed) else "differs"


def main() -> int:
    """Run the chosen cases; the status is 1 when any does not come out the same."""
    chosen = [case for case in CASES if all(word in str(case) for word in sys.argv[1:])]
    wrong, started = 0, time.monotonic()
    with tempfile.TemporaryDirectory(prefix="rlhfc-resume-") as folder:
        bench = Workbench(Path(folder))
        for case in chosen:
            found = verdict(bench, case)
            wrong += found != "same"
            print(f"{case.stage:7} ZeRO {case.zero}  {case.ranks} ranks  {case.dtype}  {found}", flush=True)
        bench.close()
    print(f"{len(chosen) - wrong} of {len(chosen)} the same, in {time.monotonic() - started:.0f} s")
    return int(wrong > 0)


if __name__ == "__main__":
    sys.exit(main())
