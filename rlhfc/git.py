"""Asking git: one process at a time, bounded in time, never writing. Standard library only."""

from __future__ import annotations

import subprocess
from pathlib import Path

SECONDS = 5.0
# No lock on the index, no helper that the repository's configuration names.
COMMAND = (
    "git",
    "--no-optional-locks",
    "--literal-pathspecs",
    "-c",
    "core.fsmonitor=false",
    "-c",
    "core.quotePath=false",
)


class GitError(Exception):
    """Git is missing, too slow, or said no; the text is the first line of what it said."""


def git(folder: Path, *arguments: str, given: bytes = b"") -> bytes:
    """What ``git`` prints when it is asked in ``folder`` and ``given`` something to read.

    Raises:
        GitError: it cannot be asked or fails.
    """
    try:
        done = subprocess.run(
            [*COMMAND, *arguments],
            cwd=folder,
            input=given,
            capture_output=True,
            timeout=SECONDS,
            check=False,
        )
    except FileNotFoundError as error:
        raise GitError("`git` is not installed") from error
    except (OSError, subprocess.TimeoutExpired) as error:
        raise GitError(str(error)) from error
    if done.returncode:
        said = done.stderr.decode(errors="replace").strip().splitlines()
        raise GitError(said[0] if said else f"git ended with status {done.returncode}")
    return done.stdout
