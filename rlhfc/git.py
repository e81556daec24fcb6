"""Asking git: one process at a time, bounded in time, never writing. Standard library only."""

from __future__ import annotations

import os
import subprocess
from pathlib import Path

SECONDS = 5.0
# The repository may be a stranger's: no lock on the index, no helper that its configuration names.
COMMAND = (
    "git",
    "--no-optional-locks",
    "--literal-pathspecs",
    "-c",
    "core.fsmonitor=false",
    "-c",
    "core.quotePath=false",
)
# Neither a prompt, nor a fetch of what a partial clone lacks: its remote may be a command.
QUIET = {"GIT_TERMINAL_PROMPT": "0", "GIT_NO_LAZY_FETCH": "1", "GIT_ALLOW_PROTOCOL": ""}
OWN_SCOPES = ("local", "worktree")


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
            env={**os.environ, **QUIET},
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


def without_filters(folder: Path) -> list[str]:
    """Options with which ``git`` runs no filter that the repository itself brings along.

    A filter is a command, and ``git status`` runs it on a file that has changed. Those of the user's
    own configuration (Git LFS) stay.

    Raises:
        GitError: as :func:`git`.
    """
    listed = git(folder, "config", "--null", "--list", "--show-scope", "--name-only", "--includes")
    words = listed.decode(errors="surrogateescape").split("\0")
    names = (name for scope, name in zip(words[::2], words[1::2], strict=False) if scope in OWN_SCOPES)
    own = {name.rpartition(".")[0] for name in names if name.lower().startswith("filter.")}
    return [
        word
        for name in sorted(own)
        for key, value in (("clean", ""), ("process", ""), ("required", "false"))
        for word in ("-c", f"{name}.{key}={value}")
    ]
