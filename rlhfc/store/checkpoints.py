"""Checkpoints of a running action, as its stage left them: how far it got, and which are whole."""

from __future__ import annotations

import json
import sys
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Any

from rlhfc.observe import LOOKED
from rlhfc.store.guarded import unguarded
from rlhfc.store.quarantine import put_aside
from rlhfc.store.records import stays_inside

FORMAT = 3
COMPLETE = "COMPLETE.json"


def places(work: Path) -> Iterator[Path]:
    """Where an action's checkpoints, metrics and outputs may lie: its attempts, the newest first.

    The last is the action's own folder, where earlier versions had them.
    """
    folder = work / "attempts"
    sys.audit(LOOKED, folder)
    try:
        found = [path for path in folder.iterdir() if path.name.isdecimal()]
    except (FileNotFoundError, NotADirectoryError):
        found = []
    yield from sorted(found, key=lambda path: int(path.name), reverse=True)
    yield work


def newest_with(work: Path, name: str) -> Path | None:
    """What lies under a name in the newest attempt that has it."""
    for place in places(work):
        sys.audit(LOOKED, place / name)
        if (place / name).exists():
            return place / name
    return None


def step_folders(work: Path) -> list[Path]:
    """Folders of an action's checkpoints, complete or not, by step."""
    folder = newest_with(work, "checkpoints")
    found = folder.glob("step-*") if folder is not None else ()
    steps = {path: path.name.removeprefix("step-") for path in found}
    return sorted((path for path in steps if steps[path].isdecimal()), key=lambda path: int(steps[path]))


def newest_checkpoint(work: Path, key: str) -> tuple[int, int] | None:
    """Step of the newest complete checkpoint under ``work`` and the step that the stage ends at.

    Complete means: ``COMPLETE.json`` is there, names the action ``key``, and every file that it lists
    has the size it says.
    """
    for folder in reversed(step_folders(work)):
        found = _complete_step(folder, key)
        if found is not None:
            step, total = found
            return step, max(step, total)
    return None


def set_damaged_aside(root: Path, work: Path, key: str) -> Iterator[str]:
    """Put checkpoints that cannot be resumed from into quarantine, up to the newest that can; say why.

    Every byte of the files that are looked at is read. The caller holds the lock of the key. One that was
    never completed is left alone: the stage clears it away.

    Args:
        root: folder of the store.
        work: folder of the action.
        key: of the action.

    Yields:
        A sentence for each, newest first.

    Raises:
        OSError: one cannot be moved.
    """
    for folder in reversed(step_folders(work)):
        if not (folder / COMPLETE).exists():
            continue
        flaw = checkpoint_flaw(folder, key)
        if flaw is None:
            return
        put_aside(root, folder, flaw)
        yield f"checkpoint `{folder.name}` is damaged: {flaw}; moved to quarantine"


def read_metrics(path: Path) -> list[dict[str, Any]]:
    """Read the lines of a metrics file that are whole JSON objects, oldest first.

    Raises:
        FileNotFoundError: there is no such file.
    """
    found = []
    for line in path.read_bytes().split(b"\n"):
        try:
            value = json.loads(line)
        except ValueError:  # empty, or torn by a kill or by a writer at work
            continue
        if isinstance(value, dict):
            found.append(value)
    return found


def _complete_step(folder: Path, key: str) -> tuple[int, int] | None:
    try:
        record = unguarded((folder / COMPLETE).read_bytes())
        ours = (record["format"], record["key"]) == (FORMAT, key)
        whole = ours and all(_size(folder / file["path"]) == file["size"] for file in record["files"])
        step, best = int(record["step"]), record.get("best")
        if best is not None and best != step:
            whole = whole and _complete_step(folder.with_name(f"step-{int(best):06d}"), key) is not None
        return (step, int(record["total"])) if whole else None
    except (OSError, ValueError, KeyError, TypeError):
        return None


def _size(path: Path) -> int:
    sys.audit(LOOKED, path)
    return path.stat().st_size


def checkpoint_flaw(folder: Path, key: str, holds: Callable[[Path, str], bool] | None = None) -> str | None:
    """Why a checkpoint that was completed cannot be resumed from; None when it can.

    Args:
        folder: ``step-<number>``.
        key: of its action, or how that begins.
        holds: whether a file has the bytes of a digest; None reads it.
    """
    try:
        record = unguarded((folder / COMPLETE).read_bytes())
        if record["format"] != FORMAT:
            return f"format {record['format']}, and this is {FORMAT}"
        if not record["key"].startswith(key):
            return "it belongs to another action"
        if int(record["step"]) != int(folder.name.removeprefix("step-")) or int(record["total"]) < 0:
            return f"`{COMPLETE}` is that of another step"
        own = next(filter(None, (_file_flaw(folder, file, holds) for file in record["files"])), None)
        return own or _flaw_of_best(folder, record, key, holds)
    except (OSError, ValueError, KeyError, TypeError, AttributeError):
        return f"`{COMPLETE}` cannot be read"


def _flaw_of_best(
    folder: Path, record: Mapping[str, Any], key: str, holds: Callable[[Path, str], bool] | None
) -> str | None:
    """Why the checkpoint of the best weights so far, which another one needs, is of no use."""
    best = record.get("best")
    if best is None or int(best) == int(record["step"]):
        return None
    other = folder.with_name(f"step-{int(best):06d}")
    flaw = checkpoint_flaw(other, key, holds)
    return f"`{other.name}`, whose weights are the best, is no longer whole: {flaw}" if flaw else None


def _file_flaw(folder: Path, file: dict[str, Any], holds: Callable[[Path, str], bool] | None) -> str | None:
    path = folder / file["path"]
    if not stays_inside(file["path"]) or not path.is_file():
        return f"`{file['path']}` is missing"
    size = path.stat().st_size
    if size != file["size"]:
        return f"`{file['path']}` has {size:,} bytes instead of {file['size']:,}"
    if not (holds or _reads_as)(path, file["digest"]):
        return f"the bytes of `{file['path']}` are not those written"
    return None


def _reads_as(path: Path, digest: str) -> bool:
    from rlhfc.store.digest import file_digest  # a plan never hashes checkpoints

    return file_digest(path) == digest
