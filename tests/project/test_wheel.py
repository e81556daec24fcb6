"""The wheel works like the checkout, from an empty folder."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
import sysconfig
import zipfile
from dataclasses import dataclass
from pathlib import Path

import pytest

from rlhfc import __version__

ROOT = Path(__file__).parents[2]


@dataclass(frozen=True)
class Installed:
    """A venv that has the wheel and sees what the tests' own venv depends on, and the wheel itself."""

    wheel: Path
    python: Path

    def call(self, *command: str, cwd: Path) -> subprocess.CompletedProcess[str]:
        """Run a program of the venv, away from the checkout."""
        environment = {name: os.environ[name] for name in ("HOME", "PATH") if name in os.environ}
        return subprocess.run(
            [self.python.with_name(command[0]), *command[1:]],
            cwd=cwd,
            env=environment,
            capture_output=True,
            text=True,
            timeout=120,
            check=False,
        )

    def output(self, *command: str, cwd: Path) -> str:
        """Standard output of a program that must succeed."""
        result = self.call(*command, cwd=cwd)
        assert 0 == result.returncode, result.stderr
        return result.stdout


def pip(*arguments: object) -> None:
    """Run this venv's pip."""
    command = [sys.executable, "-m", "pip", "--disable-pip-version-check", "--quiet", *map(str, arguments)]
    subprocess.run(command, check=True, timeout=300)


@pytest.fixture(scope="module")
def installed(tmp_path_factory: pytest.TempPathFactory) -> Installed:
    """Build from a copy, so that nothing left in ``build/`` gets in, and install without dependencies."""
    folder = tmp_path_factory.mktemp("wheel")
    source = folder / "source"
    source.mkdir()
    for name in ("pyproject.toml", "README.md", "LICENSE"):
        shutil.copy(ROOT / name, source)
    for name in ("rlhfc", "stages"):
        shutil.copytree(ROOT / name, source / name, ignore=shutil.ignore_patterns("__pycache__"))
    pip("wheel", "--no-deps", "--wheel-dir", folder, source)
    (wheel,) = folder.glob("*.whl")
    subprocess.run([sys.executable, "-m", "venv", "--without-pip", folder / "venv"], check=True, timeout=120)
    python = folder / "venv" / "bin" / "python"
    pip("--python", python, "install", "--no-deps", "--no-index", wheel)
    # Its own packages come first; an editable install of ours over there is not seen this way.
    own = next((folder / "venv" / "lib").glob("python*/site-packages"))
    (own / "dependencies.pth").write_text(sysconfig.get_path("purelib") + "\n", encoding="utf-8")
    return Installed(wheel, python)


def test_wheel_holds_each_file_of_the_packages(installed):
    """Every file of `rlhfc/` and `stages/` is in the wheel at its place, templates and YAML included."""
    expected = {
        f"{place}/{path.relative_to(ROOT / folder).as_posix()}"
        for folder, place in (("rlhfc", "rlhfc"), ("stages", "rlhfc/stages"))
        for path in (ROOT / folder).rglob("*")
        if path.is_file() and "__pycache__" not in path.parts and not path.name.startswith(".")
    }
    names = zipfile.ZipFile(installed.wheel).namelist()
    packed = {name for name in names if not name.startswith("rlhfc-")}
    assert expected == packed
    assert {"rlhfc/cli/init_pipeline.yaml", "rlhfc/stages/ppo/launch.argv.j2"} <= packed


def test_wheel_installs_one_top_level_module(installed):
    """No module called `stages`, `tests` or anything but `rlhfc` appears."""
    archive = zipfile.ZipFile(installed.wheel)
    info = f"rlhfc-{__version__}.dist-info"
    assert {"rlhfc", info} == {name.split("/")[0] for name in archive.namelist()}
    assert f"{info}/licenses/LICENSE" in archive.namelist()


def test_wheel_runs_where_it_is_installed(installed, tmp_path):
    """The module that runs is the wheel's, not the checkout's, and a stage's parameters can be imported."""
    script = "import rlhfc, rlhfc.stages.sft.kind as kind; print(rlhfc.__file__, kind.KIND.name)"
    place, kind = installed.output("python", "-c", script, cwd=tmp_path).split()
    assert ("sft", True) == (kind, Path(place).is_relative_to(installed.python.parents[1]))
    assert f"rlhfc {__version__}\n" == installed.output("rlhfc", "--version", cwd=tmp_path)


def test_first_pipeline_from_an_empty_folder(installed, tmp_path):
    """`init`, `plan` and `plan --show` work where there is nothing else; launches name the wheel's stages."""
    installed.output("rlhfc", "init", cwd=tmp_path)
    assert ["data", "pipeline.yaml"] == sorted(path.name for path in tmp_path.iterdir())
    installed.output("rlhfc", "plan", "pipeline.yaml", cwd=tmp_path)
    plan = json.loads(installed.output("rlhfc", "plan", "pipeline.yaml", "--json", "--show", cwd=tmp_path))
    launches = {stage["stage"]: stage["rendered"]["argv"] for stage in plan["stages"]}
    assert {"split", "sft", "reward", "engines", "ppo", "evaluate", "export"} == set(launches)
    assert ["deepspeed", "rlhfc.stages.sft.main"] == [
        part for part in launches["sft"] if part == "deepspeed" or part.startswith("rlhfc.")
    ]


def test_schema_from_an_empty_folder(installed, tmp_path):
    """`rlhfc schema` writes the very files that the repository holds."""
    installed.output("rlhfc", "schema", cwd=tmp_path)
    held = {path.name: path.read_text(encoding="utf-8") for path in (ROOT / "schemas").iterdir()}
    assert held == {path.name: path.read_text(encoding="utf-8") for path in (tmp_path / "schemas").iterdir()}
