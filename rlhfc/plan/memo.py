"""Plans that are known already: shown again while nothing that they were made from has changed.

A memo holds the question (spec, options, folder, environment), a stamp of every path that the
planner looked at, and the plan's document. It is disposable, and lies in the store. Reading one
needs nothing but the standard library.
"""

from __future__ import annotations

import json
import os
import sys
import zlib
from collections.abc import Iterable, Mapping, Sequence
from stat import S_ISDIR, S_ISREG
from typing import Any

from rlhfc.environment import VARIABLES, count_gpus, read_environment
from rlhfc.plan.document import PlanDocument

FORMAT = 2
FOLDER = "plans"
# A file that was written this close to the planning may be written again within the same time stamp.
RACY_NS = 2_000_000_000
Question = Mapping[str, Any]


def question(arguments: Mapping[str, Any], variables: Mapping[str, str] = os.environ) -> Question:
    """What a plan answers: the options, and the machine as far as it is no file."""
    return {
        "format": FORMAT,
        "arguments": {name: _plain(value) for name, value in sorted(arguments.items())},
        "folder": os.getcwd(),
        "python": [sys.executable, sys.version],
        "variables": {name: variables.get(name) for name in (*VARIABLES, "HOME")},
        "gpus": count_gpus(read_environment(variables)),
    }


def recall(store: str, asked: Question) -> PlanDocument | None:
    """The plan that was the answer to this question, if everything behind it is as it was."""
    try:
        with open(_place(store, asked), encoding="utf-8") as stream:
            memo = json.loads(stream.readline())
            if memo["question"] != asked or not _as_they_were(memo["stamps"]):
                return None
            document: PlanDocument = json.loads(stream.readline())
    except (OSError, ValueError, KeyError, TypeError):
        return None
    return document


def keep(store: str, asked: Question, paths: Iterable[str], document: PlanDocument, began: int) -> None:
    """Remember a plan, when the store exists and no path was changed shortly before.

    A memo that cannot be written is no error.

    Args:
        store: its folder.
        asked: see :func:`question`.
        paths: everything that the plan was made from.
        document: the plan.
        began: when planning began, in nanoseconds since the epoch.
    """
    folder = os.path.join(store, FOLDER)
    stamps = {path: _stamp(path, began - RACY_NS) for path in sorted(paths)}
    if _RACY in stamps.values() or not os.path.isdir(store):
        return
    place = _place(store, asked)
    draft = f"{place}.{os.getpid()}"
    try:
        os.makedirs(folder, exist_ok=True)
        with open(draft, "w", encoding="utf-8") as stream:
            stream.write(json.dumps({"question": asked, "stamps": stamps}) + "\n")
            stream.write(json.dumps(document) + "\n")
        os.replace(draft, place)
    except OSError:
        return


def _place(store: str, asked: Question) -> str:
    name = zlib.crc32(json.dumps(asked, sort_keys=True).encode())
    return os.path.join(store, FOLDER, f"{name:08x}.json")


def _plain(value: Any) -> Any:
    if isinstance(value, Sequence) and not isinstance(value, str):
        return [_plain(item) for item in value]
    return value if value is None or isinstance(value, bool | int | str) else str(value)


_RACY = -1


def _as_they_were(stamps: Mapping[str, int | None]) -> bool:
    return all(_stamp(path) == stamp for path, stamp in stamps.items())


def _stamp(path: str, oldest_racy: int | None = None) -> int | None:
    """One number for the state of a file or folder; None when nothing is there, or no file.

    Hashes of whole numbers are the same in every process.
    """
    try:
        status = os.stat(path)
    except OSError:
        return None
    if not (S_ISREG(status.st_mode) or S_ISDIR(status.st_mode)):
        return None
    if oldest_racy is not None and max(status.st_mtime_ns, status.st_ctime_ns) > oldest_racy:
        return _RACY
    return hash((status.st_size, status.st_mtime_ns, status.st_ctime_ns, status.st_ino))
