"""Digests of the code that a stage runs: what its ``main.py`` reaches by imports, and its own data files."""

from __future__ import annotations

import importlib.util
import os
import sys
from collections.abc import Iterator
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path

from rlhfc.compile.action import LoadedKind
from rlhfc.compile.digests import Digester
from rlhfc.errors import Diagnostic, UserError
from rlhfc.observe import LOOKED
from rlhfc.trust import Trust

BUILT_IN = "rlhfc.stages"
README = "README.md"
TEMPLATE = "launch.argv.j2"  # reaches the key as the masked command, as parameters do as values


@dataclass(frozen=True)
class Root:
    """A folder of importable code: ``package`` is its dotted name, ``shown`` its name in a key."""

    package: str
    folder: Path
    shown: str

    def find(self, module: str) -> Path | None:
        """File of a module or package below this root, or None."""
        if self.package and not f"{module}.".startswith(f"{self.package}."):
            return None
        relative = module.removeprefix(self.package).strip(".").replace(".", "/")
        place = f"{self.folder}/{relative}" if relative else str(self.folder)
        # Asked hundreds of times for a plan, hence no paths.
        for candidate in (f"{place}/__init__.py", *([f"{place}.py"] if relative else [])):
            sys.audit(LOOKED, candidate)
            if os.path.isfile(candidate):  # noqa: PTH113
                return Path(candidate)
        return None


@lru_cache
def stages_folder() -> Path:
    """Folder of the built-in kinds, found without importing them."""
    found = importlib.util.find_spec(BUILT_IN)
    locations = found.submodule_search_locations if found else None
    assert locations, "rlhfc is installed without its stages"
    return Path(next(iter(locations)))


def code_digests(loaded: LoadedKind, digests: Digester, trust: Trust | None = None) -> dict[str, str]:
    """File to digest for everything that a kind's entry script imports from the stages or beside itself.

    Args:
        loaded: the kind.
        digests: hashes Python without comments and docstrings.
        trust: whose code may run; None where this kind has been asked for before, and only its
            digests are compared.

    Raises:
        UserError: ``main.py`` is missing, a file is not Python, or a link leads to what nobody trusts.
    """
    if not (loaded.folder / "main.py").is_file():
        raise UserError(Diagnostic(f"kind `{loaded.kind.name}` has no `main.py` in `{loaded.folder}`"))
    if loaded.python_path is None:
        roots = [Root(BUILT_IN, loaded.folder.parent, "stages/")]
    else:
        roots = [Root(BUILT_IN, stages_folder(), "stages/"), Root("", loaded.python_path, "")]
    code = _closure(loaded.module, roots, digests, loaded.folder / "kind.py", trust)
    shown = f"{roots[-1].shown}{loaded.folder.relative_to(roots[-1].folder).as_posix()}"
    for path in _data_files(loaded.folder):
        code[f"{shown}/{path.relative_to(loaded.folder).as_posix()}"] = digests.file(path)
    return code


def _data_files(folder: Path) -> Iterator[Path]:
    """What lies beside the code, at any depth, and may be read by it: templates, tables."""
    for path in sorted(folder.iterdir()):
        if path.name.startswith(".") or path.name == "__pycache__":
            continue
        sys.audit(LOOKED, path)
        if path.is_dir():
            yield from _data_files(path)
        elif path.is_file() and path.suffix != ".py" and path.name not in (TEMPLATE, README):
            yield path


def _closure(
    entry: str, roots: list[Root], digests: Digester, own: Path, trust: Trust | None
) -> dict[str, str]:
    """File to digest, for a module and all that it reaches; ``own`` is the kind's ``kind.py``.

    Raises:
        UserError: a file of the user's is one that ``trust``, where it is given, does not cover.
    """
    found: dict[str, str] = {}
    waiting, seen = [entry], set()
    while waiting:
        module = waiting.pop()
        if not module or module in seen:
            continue
        seen.add(module)
        place = _find(module, roots)
        if place is None:
            continue
        root, path = place
        fault = trust.code_fault(path, str(path)) if trust is not None and not root.package else None
        if fault is not None:
            raise UserError(fault)
        # Packages above run their `__init__.py` before the module.
        waiting.append(module.rpartition(".")[0])
        source = digests.source(path)
        if path == own and source.declares_only:
            continue
        found[f"{root.shown}{path.relative_to(root.folder).as_posix()}"] = source.digest
        package = module if path.name == "__init__.py" else module.rpartition(".")[0]
        waiting.extend(_absolute(name, package) for name in source.imports)
    return found


def _find(module: str, roots: list[Root]) -> tuple[Root, Path] | None:
    for root in roots:
        path = root.find(module)
        if path is not None:
            return root, path
    return None


def _absolute(name: str, package: str) -> str:
    """Resolve the leading dots of an import inside a package."""
    relative = name.lstrip(".")
    level = len(name) - len(relative)
    if not level:
        return name
    parts = package.split(".")
    return ".".join([*parts[: len(parts) - level + 1], *([relative] if relative else [])])
