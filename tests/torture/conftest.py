"""One warm process for all tests of this folder."""

import sys
from pathlib import Path

import pytest

sys.path.insert(0, str(Path(__file__).parent))
from lab import Lab
from warm import Warm


@pytest.fixture(scope="session")
def warm():
    """A process that forks for each command."""
    process = Warm()
    yield process
    process.close()


@pytest.fixture
def lab(warm, tmp_path):
    """A folder with the spec, and no store yet."""
    return Lab.make(tmp_path / "lab", warm)
