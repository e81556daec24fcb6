"""The same keys in every process, on every machine, under every Python that is at hand."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest
import yaml
from bench import ALL_KINDS, make_bench
from keys_elsewhere import keys

REPOSITORY = Path(__file__).parents[2]
SCRIPT = Path(__file__).with_name("keys_elsewhere.py")
NEEDED = "import blake3, jinja2, networkx, pydantic, yaml"


def pythons() -> dict[str, str]:
    """Versions from 3.11 on that are on the PATH and have rlhfc's dependencies, ours first."""
    named = [sys.executable, *(shutil.which(f"python3.{minor}") or "" for minor in range(11, 20))]
    found: dict[str, str] = {}
    for command in filter(None, named):
        probe = f"{NEEDED}; import sys; print('%d.%d' % sys.version_info[:2])"
        done = subprocess.run([command, "-c", probe], capture_output=True, text=True, check=False)
        if done.returncode == 0:
            found.setdefault(done.stdout.strip(), command)
    return found


def printed(python: str, spec: Path, **surroundings: object) -> dict[str, str]:
    """What the script prints in a process of its own."""
    command = [python, str(SCRIPT), str(REPOSITORY), str(spec)]
    done = subprocess.run(command, capture_output=True, text=True, check=True, **surroundings)  # type: ignore[call-overload]
    told: dict[str, str] = json.loads(done.stdout)
    return told


@pytest.fixture(scope="module")
def spec(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The spec with all kinds, beside its sources."""
    folder = make_bench(tmp_path_factory.mktemp("elsewhere")).folder
    (folder / "spec.yaml").write_text(ALL_KINDS, encoding="utf-8")
    return folder / "spec.yaml"


@pytest.mark.parametrize(
    ("seed", "locale", "cwd", "umask"), [("1", "C", "/", 0o000), ("77", "C.UTF-8", None, 0o077)]
)
def test_another_process(seed: str, locale: str, cwd: str | None, umask: int, spec: Path) -> None:
    """Hash seed, locale, working directory and umask have no part in a key."""
    environment = os.environ | {"PYTHONHASHSEED": seed, "LC_ALL": locale}
    found = printed(sys.executable, spec, cwd=cwd or spec.parent, umask=umask, env=environment)
    assert keys(spec) == found


def test_another_python(spec: Path, record_property: pytest.RecordProperty) -> None:
    """Every Python at hand gives the same keys, code among them; which these are is on the record."""
    found = pythons()
    record_property("pythons", ", ".join(found))
    assert f"{sys.version_info.major}.{sys.version_info.minor}" in found
    assert {version: keys(spec) for version in found} == {
        version: printed(command, spec) for version, command in found.items()
    }


@pytest.mark.parametrize("form", ["crlf", "sorted", "reversed", "other folder"])
def test_another_form_of_the_spec(form: str, spec: Path, tmp_path: Path) -> None:
    """Line ends, the order of fields and the place of the files have no part in a key."""
    plain = yaml.safe_load(ALL_KINDS)
    texts = {
        "crlf": ALL_KINDS.replace("\n", "\r\n"),
        "sorted": yaml.safe_dump(plain, sort_keys=True),
        "reversed": yaml.safe_dump(_reversed(plain), sort_keys=False),
        "other folder": ALL_KINDS,
    }
    elsewhere = make_bench(tmp_path).folder / "other.yaml"
    elsewhere.write_text(
        texts[form].replace("name: all_kinds", "name: another"), encoding="utf-8", newline=""
    )
    assert keys(spec) == printed(sys.executable, elsewhere)


def _reversed(value: object) -> object:
    if isinstance(value, dict):
        return {name: _reversed(value[name]) for name in reversed(value)}
    return value
