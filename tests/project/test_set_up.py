"""What `make` needs and says before it installs anything, and what it installs."""

from __future__ import annotations

import re
import shutil
import subprocess
import sys
import tomllib
from pathlib import Path

import pytest
from packaging.requirements import Requirement

ROOT = Path(__file__).parents[2]
TOOLS = ("sh", "awk", "id", "tail")
PLENTY = {
    "df": "echo 'Filesystem 1024-blocks Used Available'; echo 'disk 9999999999 0 9999999999 0% /'",
    "uname": "echo Linux",
    "getconf": "if [ $1 = PAGE_SIZE ]; then echo 4096; else echo 9999999; fi",
}
NO_VENV = "case $2 in *ensurepip*) exit 1;; *) echo {version};; esac"


@pytest.fixture
def machine(tmp_path):
    """Runs `tools/check-machine` where only the named programs exist; each is given as shell text."""

    def check(*arguments: str, **programs: str) -> subprocess.CompletedProcess[str]:
        for name in TOOLS:
            (tmp_path / name).symlink_to(shutil.which(name))
        for name, text in {**PLENTY, "id": "echo 0", **programs}.items():
            file = tmp_path / name.replace("_", "-")
            file.unlink(missing_ok=True)
            file.write_text(f"#!/bin/sh\n{text}\n", encoding="utf-8")
            file.chmod(0o755)
        return subprocess.run(
            [ROOT / "tools" / "check-machine", *arguments],
            env={"PATH": str(tmp_path)},
            capture_output=True,
            text=True,
            check=False,
            timeout=60,
        )

    return check


def test_first_fitting_python_is_taken(machine):
    """The tested version goes before others, and one without venv is passed over."""
    fits = {"python3.12": "exit 0", "python3.14": "exit 0", "python3": "exit 0"}
    result = machine(**fits, **{"python3.11": NO_VENV.format(version="3.11")})
    assert (0, "python3.12\n", "") == (result.returncode, result.stdout, result.stderr)


def test_named_python_is_taken(machine):
    """`PYTHON=` decides, and the real check passes with the Python of these tests."""
    result = machine(sys.executable, **{"python3.11": "exit 0"})
    assert (0, f"{sys.executable}\n", "") == (result.returncode, result.stdout, result.stderr)


def test_old_python_is_refused(machine):
    """A Python before 3.11 does not fit, and the command that installs a newer one is named."""
    old = "case $2 in *ensurepip*) exit 1;; *) echo 3.10;; esac"
    result = machine(python3=old, dnf="")
    expected = (
        "error: no Python 3.11 or newer (looked for: python3.11 python3.12 python3.13 python3.14 python3)\n"
    )
    expected += "hint: `dnf install python3.12`\n"
    assert (1, "", expected) == (result.returncode, result.stdout, result.stderr)


def test_python_without_venv_is_refused(machine):
    """Debian's Python without its venv package is told by name, with sudo for who is not root."""
    result = machine(python3=NO_VENV.format(version="3.12"), apt_get="", id="echo 1000")
    expected = "error: Python 3.12 is here without venv and pip\n"
    expected += "hint: `sudo apt-get install python3.12-venv`\n"
    assert (1, "", expected) == (result.returncode, result.stdout, result.stderr)


def test_all_that_is_missing_is_told_at_once(machine):
    """Another system, a small disk and little memory are told together."""
    small = "echo 'Filesystem 1024-blocks Used Available'; echo 'disk 9 9 1048576 0% /'"
    little = "if [ $1 = PAGE_SIZE ]; then echo 4096; else echo 524288; fi"
    result = machine(python3="exit 0", df=small, getconf=little, uname="echo Darwin")
    expected = (
        "error: stages run on Linux only, and this is Darwin\n"
        "hint: use a Linux machine or container; `pip install -e .` gives `rlhfc plan` anywhere\n"
        "error: 1024 MiB of disk are free here, 3072 MiB are needed\n"
        "hint: free some, or move this folder to a larger disk\n"
        "error: this machine has 2048 MiB of memory, 3584 MiB are needed\n"
        "hint: use a machine with 4 GiB\n"
    )
    assert (1, "", expected) == (result.returncode, result.stdout, result.stderr)


def pins() -> dict[str, str]:
    """Distribution to exact version, as `constraints.txt` says."""
    lines = (ROOT / "constraints.txt").read_text(encoding="utf-8").splitlines()
    entries = [re.fullmatch(r"([\w.-]+)==(\d[\w.]*)", line) for line in lines if not line.startswith("#")]
    assert None not in entries, "each line is `name==version`, without a path or a local version"
    return {re.sub(r"[-_.]+", "-", entry[1]).lower(): entry[2] for entry in entries if entry}


def test_every_dependency_is_pinned_within_its_range():
    """`constraints.txt` has one version for each dependency that we name, and that range allows it."""
    project = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]
    extras = project["optional-dependencies"]
    wanted = [Requirement(text) for text in (*project["dependencies"], *extras["train"], *extras["dev"])]
    pinned = pins()
    names = {re.sub(r"[-_.]+", "-", requirement.name).lower(): requirement for requirement in wanted}
    assert [] == [
        str(r) for name, r in names.items() if name not in pinned or pinned[name] not in r.specifier
    ]


def test_constraints_name_nothing_of_a_gpu():
    """What is pinned is for every machine: CUDA's packages come with a build of torch that wants them."""
    assert [] == [name for name in pins() if re.match(r"nvidia|cuda|triton", name)]


def test_help_lists_every_target():
    """`make` alone shows each target that a person may call, with one line about it."""
    makefile = (ROOT / "Makefile").read_text(encoding="utf-8")
    phony = re.search(r"^\.PHONY: (.*)$", makefile, re.MULTILINE)
    # A make around these tests would have it say which directory it enters.
    command = ["make", "--no-print-directory", "help"]
    told = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=True, timeout=60)
    assert phony is not None
    assert sorted(phony[1].split()) == sorted(line.split()[1] for line in told.stdout.splitlines())
