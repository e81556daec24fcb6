"""What a plan looked at, observed instead of declared, so that nothing can be forgotten.

Python raises an audit event for every file that is opened and every folder that is listed; code of
ours that relies on a file's mere state raises :data:`LOOKED` for it. Standard library only.
"""

from __future__ import annotations

import os
import sys
import sysconfig
from collections.abc import Iterator
from contextlib import contextmanager
from functools import lru_cache
from typing import Any

LOOKED = "rlhfc.looked"
"""Audit event with one argument, a path whose existence, size or times decided something."""
DOUBT = "rlhfc.doubt"
"""Audit event without arguments: something failed that may succeed when it is asked again."""

WRITING = os.O_WRONLY | os.O_RDWR
OURS = os.path.dirname(os.path.abspath(__file__))


@contextmanager
def observed() -> Iterator[Observed]:
    """Gather the absolute paths that are looked at; at the end those of imported code are added.

    What belongs to Python itself or to an installed library is left out, but for the folders that
    libraries are installed in: these change with every installation.
    """
    if not _installed:
        sys.addaudithook(_hear)  # cannot be taken back, hence once for a process
        _installed.append(True)
    listener = Observed()
    _listeners.append(listener)
    try:
        yield listener
    finally:
        _listeners.remove(listener)
        listener.paths.update(filter(_counts, listener.heard.union(_imported())))


def absolute(path: str) -> str:
    """An absolute path to the same place: above a link, ``..`` is not what the letters say."""
    return os.path.join(os.getcwd(), path) if ".." in path.split(os.sep) else os.path.abspath(path)


class Observed:
    """What was looked at.

    Attributes:
        heard: paths to be sifted at the end.
        paths: those that decide.
        certain: whether these say it all: nothing failed that may succeed the next time.
    """

    def __init__(self) -> None:
        self.heard: set[str] = set()
        self.paths: set[str] = set()
        self.certain = True


def _hear(event: str, arguments: tuple[Any, ...]) -> None:
    if event == DOUBT:
        for listener in _listeners:
            listener.certain = False
    if not _listeners or event not in ("open", "os.listdir", "os.scandir", LOOKED):
        return
    path = "." if arguments[0] is None else arguments[0]
    if isinstance(path, int) or (event == "open" and _writes(arguments[1], arguments[2])):
        return
    name = absolute(os.fsdecode(path))
    for listener in _listeners:
        (listener.paths if event == LOOKED else listener.heard).add(name)


_listeners: list[Observed] = []
_installed: list[bool] = []


def _writes(mode: Any, flags: Any) -> bool:
    if isinstance(mode, str):
        return any(letter in mode for letter in "wax+")
    return isinstance(flags, int) and bool(flags & WRITING)


def _imported() -> Iterator[str]:
    """Files of our modules and the user's: imports read the compiled form, which is not what is edited."""
    for module in list(sys.modules.values()):
        file = getattr(module, "__file__", None)
        if isinstance(file, str):
            yield os.path.abspath(file)


def _counts(path: str) -> bool:
    if f"{os.sep}__pycache__" in path or path == "/dev" or path.startswith(("/proc/", "/sys/")):
        return False
    if path == OURS or path.startswith(f"{OURS}{os.sep}"):
        return True
    places = _library_folders()
    return path in places or not path.startswith(tuple(f"{place}{os.sep}" for place in places))


@lru_cache
def _library_folders() -> frozenset[str]:
    named = ("stdlib", "platstdlib", "purelib", "platlib")
    paths = sysconfig.get_paths()
    site = (entry for entry in sys.path if os.path.basename(entry) in ("site-packages", "dist-packages"))
    folders = [*(paths[name] for name in named), os.path.dirname(os.__file__), *site]
    return frozenset(map(os.path.abspath, folders))
