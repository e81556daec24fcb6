"""The command line of the scripts that try random edits: how many, and from which seed."""

from __future__ import annotations

import argparse
import os
import tempfile
from collections.abc import Callable
from pathlib import Path


def try_edits(description: str | None, edits: int, story: Callable[[Path, int, int], str]) -> None:
    """Read the command line, tell a story of so many edits, by default ``edits``, and print what it says."""
    parser = argparse.ArgumentParser(
        description=description, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--edits", type=int, default=edits)
    parser.add_argument("--seed", type=int, default=1)
    given = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        os.environ["RLHFC_TRUST"] = str(Path(folder).resolve())
        found = story(Path(folder), given.seed, given.edits)
    print(f"{given.edits} random edits, seed {given.seed}: {found}")
