"""Where each value of a stage was written, in words: ``pipeline.yaml:41``, ``--set ppo.kl_coef=0.05``."""

from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path

from rlhfc.compile.impacts import dotted, leaves
from rlhfc.errors import Mark
from rlhfc.spec.model import StageSpec
from rlhfc.spec.nodes import Node

Steps = tuple[str | int, ...]


def origins_of(stage: StageSpec, folder: Path) -> dict[str, str]:
    """Dotted path to origin, for every value that is written; a field's own default has none.

    What stands inside a free mapping (``deepspeed:``) has an origin of its own.

    Args:
        stage: of a valid spec.
        folder: that of the spec; files are named relative to it.
    """
    found: dict[str, str] = {}
    files: dict[Path, str] = {}
    written = stage.node.mapping or {}
    for leaf in leaves(stage.params):
        if leaf.path[0] not in written:
            continue
        node, steps = stage.node.descend(leaf.path)
        if steps < len(leaf.path):
            continue
        end = " (defaults)" if leaf.path[0] in stage.defaulted else ""
        free = isinstance(leaf.value, dict)
        for path, mark in _places(node, leaf.path) if free else [(leaf.path, node.place())]:
            found[dotted(path)] = _words(mark, folder, files) + (end if mark.line else "")
    return found


def _words(mark: Mark, folder: Path, files: dict[Path, str]) -> str:
    """File, relative to ``folder``, and line; an option of the command line as it was given."""
    if not mark.line:
        return f"{mark.file} {mark.text}" if mark.text else str(mark.file)
    if mark.file not in files:
        files[mark.file] = Path(os.path.relpath(mark.file, folder)).as_posix()
    return f"{files[mark.file]}:{mark.line}"


def _places(node: Node, path: Steps) -> Iterator[tuple[Steps, Mark]]:
    yield path, node.place()
    for name, below in (node.mapping or {}).items():
        yield from _places(below, (*path, name))
