"""The command line is a contract: what it takes, and what it may import."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest
from cli_surface import RECORD, surface

ROOT = Path(__file__).parents[2]
FORBIDDEN = {"torch", "transformers", "datasets", "deepspeed"}
LOADED = """
import atexit, sys
atexit.register(lambda: print(*sys.modules, file=open(sys.argv[1], "w")))
import rlhfc
if sys.argv[2:]:
    from rlhfc.cli.main import main
    sys.exit(main(sys.argv[2:]))
"""


def modules_after(tmp_path: Path, *arguments: str) -> set[str]:
    """Every module that is loaded when `import rlhfc` or a command has ended."""
    listed = tmp_path / "modules.txt"
    command = [sys.executable, "-c", LOADED, str(listed), *arguments]
    subprocess.run(command, cwd=ROOT, check=True, stdout=subprocess.DEVNULL, timeout=120)
    return set(listed.read_text(encoding="utf-8").split())


def test_command_line_is_as_on_record():
    """No command or option appears, vanishes or changes its form without `cli_surface.txt` saying so."""
    hint = f"if it is meant: `python {Path(__file__).with_name('cli_surface.py').relative_to(ROOT)}`"
    assert RECORD.read_text(encoding="utf-8") == surface(), hint


def test_import_of_the_package_brings_no_dependency(tmp_path):
    """`import rlhfc` needs the standard library only."""
    heavy = {"pydantic", "jinja2", "rich", "networkx", "yaml", "blake3", *FORBIDDEN}
    assert set() == heavy & modules_after(tmp_path)


@pytest.mark.parametrize("options", [(), ("--json",), ("--show",)], ids=["text", "json", "show"])
def test_plan_brings_no_training_library(options, tmp_path):
    """`rlhfc plan` of a whole pipeline, in all its forms, imports no training library."""
    command = ("plan", "pipelines/quickstart.yaml", "--store", str(tmp_path / "store"), *options)
    loaded = modules_after(tmp_path, *command)
    assert ({"rlhfc.plan.planner"}, set()) == ({"rlhfc.plan.planner"} & loaded, FORBIDDEN & loaded)


@pytest.mark.parametrize("command", ["explain", "config", "graph", "status", "history", "diff"])
def test_questions_bring_no_training_library(command, tmp_path):
    """What explains, draws or compares imports none either."""
    spec = "pipelines/quickstart.yaml"
    words = {"explain": [spec, "ppo"], "config": [spec], "diff": [spec, spec], "history": []}
    store = [] if command == "config" else ["--store", str(tmp_path / "store")]
    loaded = modules_after(tmp_path, command, *words.get(command, [spec]), *store)
    assert ({f"rlhfc.cli.{command}"}, set()) == ({f"rlhfc.cli.{command}"} & loaded, FORBIDDEN & loaded)
