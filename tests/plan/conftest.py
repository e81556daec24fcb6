"""Fixtures of the tests of planning."""

from __future__ import annotations

from pathlib import Path

import pytest
from toy import Toy, make_toy


@pytest.fixture
def toy(tmp_path: Path) -> Toy:
    """Three stages that never ran."""
    return make_toy(tmp_path)
