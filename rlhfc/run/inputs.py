"""What a stage reads, put where it can read it; and proof that nobody changed it, or the code, meanwhile."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from rlhfc.compile.action import Action, ResolvedSource, UpstreamOutput
from rlhfc.compile.code import code_digests
from rlhfc.compile.digests import Digester
from rlhfc.errors import UserError
from rlhfc.store.files import walk_files
from rlhfc.store.store import Store

Outputs = Mapping[tuple[str, str], str]
Stamps = dict[str, tuple[int, int, int]]


class DownloadError(Exception):
    """A hub source that could not be fetched.

    Attributes:
        hint: what would mend it.
    """

    def __init__(self, message: str, hint: str) -> None:
        super().__init__(message)
        self.hint = hint


@dataclass(frozen=True)
class Inputs:
    """The inputs of one action, on disk.

    Attributes:
        places: address to folder and, for a single file, its name inside.
        trees: tree digest of each input that a stage made.
        stamps: for the folder of each of those, inode, size and modification time of its files.
    """

    places: Mapping[str, tuple[Path, str | None]]
    trees: tuple[str, ...]
    stamps: Mapping[Path, Stamps]


def materialise(action: Action, outputs: Outputs, store: Store) -> Inputs:
    """Put every input of an action where the stage can read it.

    Args:
        action: the stage.
        outputs: tree digest of each upstream output, by stage and port.
        store: holds them.

    Raises:
        DownloadError: a hub source could not be fetched.
        DamagedRecordError: an upstream output went missing since it was found.
    """
    places: dict[str, tuple[Path, str | None]] = {}
    trees, stamps = [], {}
    for address, binding in action.inputs.items():
        if isinstance(binding, UpstreamOutput):
            tree = outputs[(binding.stage, binding.port)]
            places[address] = (store.view_read(tree), None)
            trees.append(tree)
            stamps[places[address][0]] = _stamps(places[address][0])
        elif binding.path is not None:
            places[address] = (binding.path, binding.file)
        else:
            places[address] = (_download(binding, action.repository_type(address)), binding.file)
    return Inputs(places, tuple(dict.fromkeys(trees)), stamps)


def changed_input(action: Action, inputs: Inputs, digests: Digester) -> str | None:
    """Find the first input that is not what it was at the launch; None when all are."""
    for address, binding in action.inputs.items():
        folder, file = inputs.places[address]
        if isinstance(binding, UpstreamOutput):
            if _stamps(folder) != inputs.stamps[folder]:
                return address
        elif binding.path is not None and _digest(folder, file, digests) != binding.digest:
            return address
    return None


def changed_code(action: Action, digests: Digester) -> str | None:
    """Find the first file of the stage's code that is not what the key says; None when all are."""
    try:
        now = code_digests(action.loaded, digests)
    except UserError:  # gone, or no longer Python
        now = {}
    names = (name for name in {**action.code, **now} if now.get(name) != action.code.get(name))
    return min(names, default=None)


def _digest(folder: Path, file: str | None, digests: Digester) -> str | None:
    try:
        return digests.file(folder / file) if file is not None else digests.folder(folder)
    except UserError:  # gone, or being written
        return None


def _stamps(folder: Path) -> Stamps:
    stamps = {}
    for entry in walk_files(folder):
        state = entry.stat(follow_symlinks=False)
        stamps[entry.path] = (state.st_ino, state.st_size, state.st_mtime_ns)
    return stamps


def ask_commit(source: ResolvedSource, repository: str) -> str:
    """Commit that a hub source's branch or tag has now.

    Raises:
        DownloadError: the hub cannot be asked.
    """
    assert source.hub is not None
    name, revision = source.hub
    return _ask_hub("commit", repository, name, revision, failure=f"asked for `{source.origin}`")


def _download(source: ResolvedSource, repository: str) -> Path:
    """Fetch a snapshot at its pinned commit; return its folder.

    Raises:
        DownloadError: it cannot be had.
    """
    assert source.hub is not None
    name, commit = source.hub
    file = [source.file] if source.file is not None else []
    return Path(
        _ask_hub("snapshot", repository, name, commit, *file, failure=f"cannot download `{source.origin}`")
    )


def _ask_hub(what: str, repository: str, name: str, *more: str, failure: str) -> str:
    """Last line of what ``rlhfc.run.hub`` prints, in a process of its own."""
    done = subprocess.run(
        [sys.executable, "-m", "rlhfc.run.hub", what, repository, name, *more],
        stdin=subprocess.DEVNULL,
        capture_output=True,
        text=True,
        check=False,
        env=dict(os.environ),
    )
    if done.returncode == 0:
        return done.stdout.splitlines()[-1]
    said = done.stderr.strip().splitlines()
    raise DownloadError(
        f"{failure}: {said[-1] if said else f'exit status {done.returncode}'}",
        f"name a local copy with `--mirror {name}=FOLDER`",
    )
