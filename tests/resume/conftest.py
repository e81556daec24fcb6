"""One workbench that the tests of this folder share."""

import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

sys.path.insert(0, str(Path(__file__).parent))
from workbench import Workbench


@pytest.fixture(scope="session")
def bench(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Workbench]:
    """The tiny world, with data, models and engines made once."""
    made = Workbench(tmp_path_factory.mktemp("resume"))
    yield made
    made.close()
