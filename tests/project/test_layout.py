"""The border between `rlhfc/` and `stages/`."""

from __future__ import annotations

import ast
from pathlib import Path

ROOT = Path(__file__).parents[2]
FORBIDDEN = {"torch", "transformers", "datasets", "deepspeed"}


def imported(file: Path) -> set[str]:
    """Full names of the modules that a file imports anywhere in it, relative ones left out."""
    found: set[str] = set()
    for node in ast.walk(ast.parse(file.read_text(encoding="utf-8"))):
        if isinstance(node, ast.Import):
            found |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom) and node.level == 0:
            found.add(node.module or "")
    return found


def test_package_imports_no_training_library():
    """No module of `rlhfc/` names torch, transformers, datasets or deepspeed, not even inside a function."""
    imports = {(str(file), name) for file in (ROOT / "rlhfc").rglob("*.py") for name in imported(file)}
    assert "rlhfc.kind" in {name for _, name in imports}
    assert set() == {(file, name) for file, name in imports if name.split(".")[0] in FORBIDDEN}


def test_stages_import_one_module_of_the_package():
    """`stages/` takes `rlhfc.kind` from `rlhfc/`, and its own modules by relative imports."""
    names = {name for file in (ROOT / "stages").rglob("*.py") for name in imported(file)}
    assert {"rlhfc.kind"} == {name for name in names if name.split(".")[0] in ("rlhfc", "stages")}
