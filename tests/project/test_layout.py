"""The border between `rlhfc/` and `stages/`, and the direction in which the parts of `rlhfc/` read."""

from __future__ import annotations

import ast
from graphlib import TopologicalSorter
from pathlib import Path

ROOT = Path(__file__).parents[2]
FORBIDDEN = {"torch", "transformers", "datasets", "deepspeed"}
# Who may read whom: each its own layer and those above it. `spec` and `compile` are one, since a spec is
# checked against the kinds that `compile` loads, and `compile` reads the spec's types.
LAYERS = (
    {"errors", "identity", "kind", "environment", "filesystems", "observe", "git", "terminal", "trust"},
    {"provenance", "store"},
    {"spec", "compile"},
    {"plan"},
    {"remote"},
    {"run"},
    {"report"},
    {"explain", "upkeep"},
    {"cli"},
    {"__main__"},
)
RANK = {name: rank for rank, layer in enumerate(LAYERS) for name in layer}


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


def readings() -> set[tuple[str, str]]:
    """Modules of `rlhfc/` and what each of them imports of it, also inside functions, as dotted names."""
    found = set()
    for file in (ROOT / "rlhfc").rglob("*.py"):
        here = ".".join(file.relative_to(ROOT).with_suffix("").parts).removesuffix(".__init__")
        found |= {(here, name) for name in imported(file) if name.startswith("rlhfc.")}
    return found


def test_layers_read_one_way():
    """No module imports from a layer below its own, and every module has a layer."""
    pairs = readings()
    modules = {path.stem for path in (ROOT / "rlhfc").iterdir() if path.suffix == ".py" or path.is_dir()}
    assert RANK.keys() == modules - {"__init__", "__pycache__"}
    assert [] == sorted(
        (here, name) for here, name in pairs if RANK[here.split(".")[1]] < RANK[name.split(".")[1]]
    )


def test_no_circles_between_commands():
    """A module of `rlhfc/cli` imports none that imports it, by whatever way."""
    above: dict[str, set[str]] = {}
    for here, name in readings():
        if here.startswith("rlhfc.cli.") and name.startswith("rlhfc.cli."):
            above.setdefault(here, set()).add(name)
    assert [] != list(TopologicalSorter(above).static_order())
