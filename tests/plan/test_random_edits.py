"""A shorter form of ``make edits``: laws of plans under random edits."""

from __future__ import annotations

import pytest
from random_edits import play


@pytest.mark.parametrize("seed", range(1, 6))
def test_random_edits(seed: int) -> None:
    """No false hit, no unexplained verdict, and nothing moves that an edit cannot reach."""
    play(-seed, 40)
