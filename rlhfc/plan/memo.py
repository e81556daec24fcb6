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
from stat import S_ISCHR, S_ISDIR, S_ISREG
from typing import Any

from rlhfc import observe
from rlhfc.environment import VARIABLES, count_gpus, read_environment
from rlhfc.filesystems import believable, file_system
from rlhfc.plan.document import PlanDocument

FORMAT = 4
FOLDER = "plans"
# A file that was written this close to the planning may be written again within the same time stamp.
RACY_NS = 2_000_000_000
EMPTY = frozenset({os.devnull, "/dev/random", "/dev/urandom"})  # no plan is made from what they hold
KEPT = 64  # plans, newest first: each value of a `--set` is a question of its own
Question = Mapping[str, Any]


def question(arguments: Mapping[str, Any], variables: Mapping[str, str] = os.environ) -> Question:
    """What a plan answers: the options, and the machine as far as it is no file."""
    return {
        "format": FORMAT,
        "arguments": {name: _plain(value) for name, value in sorted(arguments.items())},
        "folder": os.getcwd(),
        "python": [sys.executable, sys.version, observe.OURS, *sys.path],
        "variables": {name: variables.get(name) for name in (*VARIABLES, "HOME")},
        "git": _checksum({name: value for name, value in variables.items() if name.startswith("GIT_")}),
        "gpus": count_gpus(read_environment(variables)),
    }


def recall(store: str, asked: Question) -> PlanDocument | None:
    """The plan that was the answer to this question, if everything behind it is as it was."""
    try:
        with open(_place(store, asked), "rb") as stream:
            memo, answer = decode(stream.read())
    except (OSError, ValueError):
        return None
    if memo["question"] != asked or not _as_they_were(memo["stamps"]):
        return None
    document: PlanDocument = json.loads(answer)
    return document


def decode(data: bytes) -> tuple[dict[str, Any], bytes]:
    """Question and stamps of a memo, and the text of its document.

    Raises:
        ValueError: it is damaged.
    """
    crc, _, rest = data.partition(b"\n")
    if crc != b"%08x" % zlib.crc32(rest):
        raise ValueError("it is not what was written")
    memo, _, answer = rest.partition(b"\n")
    return json.loads(memo), answer


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
    from rlhfc.store.layout import (
        STAT_CACHE,  # a plan that was made has loaded it; one that is known does not
    )

    folder = os.path.join(store, FOLDER)
    if not os.path.isdir(store):
        return
    cache = observe.absolute(os.path.join(store, STAT_CACHE))  # decides nothing, and has just been written
    stamps = _stamps(set(paths) - {cache}, began - RACY_NS)
    if stamps is None:
        return
    place = _place(store, asked)
    draft = f"{place}.{os.getpid()}"
    try:
        os.makedirs(folder, exist_ok=True)
        memo = {"question": asked, "stamps": stamps}
        text = f"{json.dumps(memo)}\n{json.dumps(document)}\n".encode()
        with open(draft, "wb") as stream:
            stream.write(b"%08x\n" % zlib.crc32(text) + text)
        os.replace(draft, place)
        _forget_oldest(folder)
    except OSError:
        return


def _place(store: str, asked: Question) -> str:
    return os.path.join(store, FOLDER, f"{_checksum(asked)}.json")


def _checksum(value: Any) -> str:
    """Stands for a value whose text is not to be kept: git's variables may hold passwords."""
    return f"{zlib.crc32(json.dumps(value, sort_keys=True).encode()):08x}"


def _forget_oldest(folder: str) -> None:
    with os.scandir(folder) as found:
        oldest = sorted(found, key=lambda entry: entry.stat().st_mtime_ns)[:-KEPT]
    for entry in oldest:
        os.unlink(entry.path)


def _plain(value: Any) -> Any:
    if isinstance(value, Sequence) and not isinstance(value, str):
        return [_plain(item) for item in value]
    return value if value is None or isinstance(value, bool | int | str) else str(value)


def _as_they_were(stamps: Mapping[str, int | None]) -> bool:
    """Whether every path has the stamp that it had; written out, for there may be tens of thousands."""
    stat = os.stat
    for path, stamp in stamps.items():
        try:
            now = stat(path)
        except OSError:
            if stamp is None:
                continue
            return False
        if hash((now.st_size, now.st_mtime_ns, now.st_ctime_ns, now.st_ino)) != stamp:
            return False
    return True


def _stamps(paths: Iterable[str], racy: int) -> dict[str, int | None] | None:
    """A number for the state of each path, None where nothing is.

    Hashes of whole numbers are the same in every process.

    Returns:
        None altogether when a path is too young, or its state cannot be told: it is no file and no
        folder (a pipe), or lies on a file system whose time stamps prove nothing.
    """
    stamps: dict[str, int | None] = {}
    believed: dict[int | str, bool] = {}
    for path in sorted(paths):
        try:
            now = os.stat(path)
        except OSError:
            stamps[path] = None
            device: int | str = os.path.dirname(path)
        else:
            if S_ISCHR(now.st_mode) and path in EMPTY:
                continue
            if not (S_ISREG(now.st_mode) or S_ISDIR(now.st_mode)):
                return None
            if max(now.st_mtime_ns, now.st_ctime_ns) > racy:
                return None
            stamps[path] = hash((now.st_size, now.st_mtime_ns, now.st_ctime_ns, now.st_ino))
            device = now.st_dev
        if device not in believed:
            believed[device] = believable(file_system(path))
        if not believed[device]:
            return None
    return stamps
