"""Finds stage kinds by folder and imports each only when it is asked for."""

from __future__ import annotations

import hashlib
import importlib
import sys
import traceback
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from types import ModuleType

from rlhfc.compile.action import LoadedKind
from rlhfc.errors import Diagnostic, Mark, UserError
from rlhfc.kind import Kind
from rlhfc.observe import LOOKED
from rlhfc.trust import Trust, read_trust

BUILT_IN = "rlhfc.stages"
CODE = ("kind.py", "main.py", "launch.argv.j2")  # a template says which command runs


@dataclass(frozen=True)
class _Found:
    """A folder with a ``kind.py``.

    Attributes:
        parent: the user's folder of kinds; None for a built-in kind.
        fault: why nothing in it may run.
    """

    folder: Path
    parent: Path | None = None
    fault: Diagnostic | None = None


class UntrustedKindError(UserError):
    """The code of a kind may not run; told already where the folder of kinds is named."""


class KindRegistry(Mapping[str, LoadedKind]):
    """Kinds by name. Looking a name up imports its ``kind.py``; listing the names does not."""

    def __init__(self, found: Mapping[str, _Found]) -> None:
        """Take the folders; nothing is imported yet."""
        self._found = found
        self._loaded: dict[str, LoadedKind] = {}

    def __getitem__(self, name: str) -> LoadedKind:
        if name not in self._loaded:
            found = self._found[name]
            if found.fault is not None:
                raise UntrustedKindError(found.fault)
            self._loaded[name] = _load(name, found)
        return self._loaded[name]

    def __contains__(self, name: object) -> bool:
        return name in self._found

    def __iter__(self) -> Iterator[str]:
        return iter(self._found)

    def __len__(self) -> int:
        return len(self._found)

    @property
    def faults(self) -> tuple[Diagnostic, ...]:
        """Why kinds may not run, each reason once."""
        return tuple(dict.fromkeys(found.fault for found in self._found.values() if found.fault is not None))


def load_kinds(folders: Sequence[Path], trust: Trust | None = None) -> KindRegistry:
    """Registry of the built-in kinds and of those in the user's folders.

    Args:
        folders: each holds sub-folders with a ``kind.py``; a sub-folder's name is the kind's name.
        trust: what may run; default that of the user of this process.

    Raises:
        UserError: a folder is missing or holds no kind, or a name is taken already. Looking up a
            kind raises it too, when its ``kind.py`` fails or does not define a fitting ``KIND``.
    """
    found = dict(_built_in())
    trust = trust or read_trust()
    for folder in folders:
        for name, place in _user_kinds(folder, trust).items():
            if name in found:
                other = "a built-in kind" if found[name].parent is None else f"`{found[name].folder}`"
                raise UserError(
                    Diagnostic(
                        f"kind `{name}` in `{folder}` has the name of {other}", hint="rename its folder"
                    )
                )
            found[name] = place
    return KindRegistry(found)


def _built_in() -> Iterator[tuple[str, _Found]]:
    package = importlib.import_module(BUILT_IN)
    for root in package.__path__:
        for folder in sorted(Path(root).iterdir()):
            if _holds_kind(folder):
                yield folder.name, _Found(folder)


def _holds_kind(folder: Path) -> bool:
    sys.audit(LOOKED, folder / "kind.py")
    return (folder / "kind.py").is_file()


def _user_kinds(folder: Path, trust: Trust) -> dict[str, _Found]:
    sys.audit(LOOKED, folder)  # a link may lead elsewhere later
    if not folder.is_dir():
        raise UserError(Diagnostic(f"folder of kinds `{folder}` does not exist"))
    parent = folder.resolve()
    whole = trust.code_fault(parent, str(folder))
    found = {
        child.name: _Found(child, parent, whole or _fault(child, trust))
        for child in sorted(parent.iterdir())
        if _holds_kind(child)
    }
    if not found:
        hint = "a kind is a sub-folder with `kind.py`, `launch.argv.j2` and `main.py`"
        raise UserError(Diagnostic(f"folder `{folder}` holds no kind", hint=hint))
    return found


def _fault(folder: Path, trust: Trust) -> Diagnostic | None:
    """Why a kind in a trusted folder may not run: a part of it is a link that leads elsewhere."""
    faults = (
        trust.code_fault(folder / name, str(folder / name)) for name in CODE if (folder / name).exists()
    )
    return next(filter(None, faults), None)


def _load(name: str, found: _Found) -> LoadedKind:
    """Import one ``kind.py``.

    Raises:
        UserError: it fails, or its ``KIND`` does not fit.
    """
    if found.parent is None:
        module = importlib.import_module(f"{BUILT_IN}.{name}.kind")
        return LoadedKind(_checked(name, module, found), found.folder, f"{BUILT_IN}.{name}.main")
    module = _execute(found.folder / "kind.py")
    return LoadedKind(_checked(name, module, found), found.folder, f"{name}.main", found.parent)


def _checked(name: str, module: ModuleType, found: _Found) -> Kind:
    kind = getattr(module, "KIND", None)
    mark = Mark(found.folder / "kind.py", 1, 1)
    if not isinstance(kind, Kind):
        raise UserError(Diagnostic("this `kind.py` defines no `KIND`", mark, "write `KIND = Kind(...)`"))
    if kind.name != name:
        message = f"kind `{kind.name}` lies in a folder called `{name}`"
        raise UserError(Diagnostic(message, mark, f'say `name="{name}"` or rename the folder'))
    return kind


def _execute(path: Path) -> ModuleType:
    """Run a user's ``kind.py`` under a module name of its own, leaving no bytecode behind.

    The import system's bytecode cache would write beside the user's code and, within one second,
    take an edited file for the old one.
    """
    digest = hashlib.sha256(str(path).encode()).hexdigest()[:12]
    module = ModuleType(f"_rlhfc_kind_{digest}_{path.parent.name}")
    module.__file__ = str(path)
    # Pydantic resolves postponed annotations through sys.modules.
    sys.modules[module.__name__] = module
    try:
        exec(compile(path.read_bytes(), str(path), "exec"), module.__dict__)
    except Exception as error:
        del sys.modules[module.__name__]
        raise UserError(_failure(path, error)) from error
    return module


def _failure(path: Path, error: Exception) -> Diagnostic:
    line = 1
    if isinstance(error, SyntaxError) and error.filename == str(path):
        line = error.lineno or 1
    for frame in traceback.extract_tb(error.__traceback__):
        if frame.filename == str(path):
            line = frame.lineno or 1
    said = (error.msg if isinstance(error, SyntaxError) else str(error)) or "no message"
    return Diagnostic(f"`kind.py` fails: {type(error).__name__}: {said.splitlines()[0]}", Mark(path, line, 1))
