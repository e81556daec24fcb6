"""The workshop as a fixture."""

import pytest
from workshop import Bench


@pytest.fixture
def bench(tmp_path):
    """An empty workshop."""
    return Bench(tmp_path)
