"""Fixtures of the tests of compilation."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest
from bench import ALL_KINDS, Bench, make_bench


@pytest.fixture
def bench(tmp_path: Path) -> Bench:
    """A bench of the test's own."""
    return make_bench(tmp_path)


@pytest.fixture(scope="module")
def shared_bench(tmp_path_factory: pytest.TempPathFactory) -> Bench:
    """A bench for all tests of a module."""
    return make_bench(tmp_path_factory.mktemp("bench"))


@pytest.fixture
def all_kinds() -> str:
    """A spec with a stage of every kind."""
    return ALL_KINDS


@pytest.fixture
def write(tmp_path: Path) -> Callable[[str, str], Path]:
    """Write a file below the test's folder."""

    def write_file(name: str, text: str) -> Path:
        path = tmp_path / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text, encoding="utf-8")
        return path

    return write_file
