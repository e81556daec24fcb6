"""What is asked of the machine: GPUs, variables, distributions."""

from __future__ import annotations

import re
from dataclasses import replace
from pathlib import Path

import pytest

import rlhfc
from rlhfc.compile.world import installed_version
from rlhfc.environment import VARIABLES, count_gpus, read_environment

READING = re.compile(r"""(?:environ(?:\.get)?[\[(]|variables(?:, |\.get\())"([A-Z_]+)"(?!\] =)""")


@pytest.mark.parametrize(
    ("devices", "visible", "expected"),
    [
        ([], None, 0),
        ([], "0,1", 0),
        (["nvidia0", "nvidia1", "nvidiactl", "nvidia-uvm"], None, 2),
        (["nvidia0", "nvidia1"], "1", 1),
        (["nvidia0", "nvidia1"], "", 0),
        (["nvidia0", "nvidia1"], "-1", 0),
        (["nvidia0"], "0,1,2", 1),
    ],
)
def test_gpus(devices: list[str], visible: str | None, expected: int, tmp_path: Path) -> None:
    """Device files are counted, as far as the environment lets them be used."""
    for name in devices:
        (tmp_path / name).touch()
    assert expected == count_gpus(replace(read_environment({}), visible_gpus=visible), tmp_path)


@pytest.mark.parametrize(
    ("variables", "expected"),
    [
        ({"HF_HUB_CACHE": "/a", "HF_HOME": "/b", "XDG_CACHE_HOME": "/c"}, "/a"),
        ({"HF_HUB_CACHE": "", "HF_HOME": "/b", "XDG_CACHE_HOME": "/c"}, "/b/hub"),
        ({"XDG_CACHE_HOME": "/c"}, "/c/huggingface/hub"),
        ({}, str(Path.home() / ".cache/huggingface/hub")),
    ],
)
def test_the_hub_cache(variables: dict[str, str], expected: str) -> None:
    """The cache is where Hugging Face's own library would look."""
    assert Path(expected) == read_environment(variables).hub_cache


def test_every_variable_is_declared() -> None:
    """The table of variables and what the sources read by name are the same set."""
    package = Path(rlhfc.__file__).parent
    texts = (path.read_text(encoding="utf-8") for path in package.rglob("*.py") if "stages" not in path.parts)
    assert set(VARIABLES) == {name for text in texts for name in READING.findall(text)}


def test_distributions() -> None:
    """A version, or None for what is not installed."""
    assert installed_version("pydantic")
    assert None is installed_version("no-such-distribution")
