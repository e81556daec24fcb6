"""``make torture``: every sweep in its long form, with figures. Without options all of them, for hours.

``make torture ARGS="--kills"``, ``ARGS="--errors --every 10"``, ``ARGS="--training 20"``,
``ARGS="--chaos 2h --seed 7"``. Status 1 when a promise was broken.
"""

from __future__ import annotations

import argparse
import os
import platform
import random
import re
import sys
import tempfile
import time
from collections.abc import Iterator
from errno import EIO, EMFILE, ENOSPC
from pathlib import Path

import sweeps
from chaos import chaos
from disks import full_disks, no_mounts
from lab import KINDS, BrokenPromiseError
from syscalls import no_strace, system_calls
from training import train
from warm import Warm

UNITS = {"s": 1, "m": 60, "h": 3600}
SHOWN = 2000  # characters of a broken promise


def duration(text: str) -> float:
    """Seconds of ``90s``, ``10m`` or ``2h``."""
    found = re.fullmatch(r"(\d+)([smh])", text)
    if found is None:
        raise argparse.ArgumentTypeError(f"`{text}` is no duration such as 2h, 10m or 90s")
    return float(found[1]) * UNITS[found[2]]


def arguments() -> argparse.Namespace:
    """Those of the command line; without a choice, all."""
    parser = argparse.ArgumentParser(
        prog="make torture", description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--kills", action="store_true", help="SIGKILL at every call of run, plan and accept")
    parser.add_argument(
        "--deaths", action="store_true", help="SIGKILL of stage, guard, run at each moment of a stage"
    )
    parser.add_argument("--errors", action="store_true", help="ENOSPC, EIO, EMFILE, EDQUOT at every call")
    parser.add_argument("--disks", action="store_true", help="disks that are full, of every size")
    parser.add_argument("--strace", action="store_true", help="SIGKILL at every true system call")
    parser.add_argument("--training", type=int, metavar="N", help="N kills of real two-rank training")
    parser.add_argument("--chaos", type=duration, metavar="TIME", help="the chaos loop for 2h, 10m, 90s")
    parser.add_argument("--seed", type=int, help="of chaos and training (default: drawn, and shown)")
    parser.add_argument("--every", type=int, default=1, metavar="K", help="try every K-th call only")
    parser.add_argument("--folder", type=Path, help="where to work (default: a temporary folder)")
    given = parser.parse_args()
    if not any(
        (given.kills, given.deaths, given.errors, given.disks, given.strace, given.training, given.chaos)
    ):
        given.kills = given.deaths = given.errors = given.disks = given.strace = True
        given.training, given.chaos = 20, duration("2h")
    if given.seed is None:
        given.seed = random.randrange(10**6)
    return given


def all_figures(given: argparse.Namespace, warm: Warm, folder: Path) -> Iterator[sweeps.Figures]:
    """The sweeps that were asked for."""
    every = given.every
    if given.kills:
        yield sweeps.kills(warm, folder, every)
        yield sweeps.torn(warm, folder, every=every)
        yield from sweeps.other_commands(warm, folder)
    if given.deaths:
        yield sweeps.deaths(warm, folder, every)
    if given.errors:
        yield sweeps.torn(warm, folder, ENOSPC, every=every)
        for lasting in (False, True):
            for number in sweeps.ERRORS:
                yield sweeps.errors(warm, folder, number, lasting=lasting, every=every)
            for number in (ENOSPC, EIO, EMFILE):
                yield from sweeps.other_commands(warm, folder, number, lasting=lasting, every=every)
    if given.disks:
        yield from _or_say(no_mounts(), lambda: full_disks(warm, folder, every=every))
    if given.strace:
        yield from _or_say(no_strace(), lambda: [system_calls(warm, folder, every=every)])


def _or_say(reason, make):
    if reason is not None:
        print(f"left out: {reason}", flush=True)
        return []
    return make()


def main() -> int:
    """Do what was asked for; print a line for each."""
    given, status = arguments(), 0
    print(f"{platform.platform()}, Python {platform.python_version()}, seed {given.seed}", flush=True)
    with tempfile.TemporaryDirectory(prefix="torture-") as temporary:
        folder = given.folder or Path(temporary)
        os.environ["RLHFC_TRUST"] = os.pathsep.join(map(str, (folder.resolve(), KINDS)))
        warm, began = Warm(), time.monotonic()
        for figures in all_figures(given, warm, folder):
            print(f"{figures} ({time.monotonic() - began:.0f} s)", flush=True)
            began = time.monotonic()
            for broken in figures.broken:
                print(f"BROKEN {broken[:SHOWN]}", flush=True)
                status = 1
        warm.close()
        try:
            if given.training:
                print(train(folder / "training", given.training, given.seed, _say), flush=True)
            if given.chaos:
                print(chaos(folder / "chaos", given.chaos, given.seed), flush=True)
        except BrokenPromiseError as error:
            print(f"BROKEN {error}", flush=True)
            return 1
    return status


def _say(text: str) -> None:
    print(f"  {text}", file=sys.stderr, flush=True)


if __name__ == "__main__":
    sys.exit(main())
