"""Random edits, each followed by a plan that is compared with a model; `make random-edits` has many more."""

from __future__ import annotations

from pathlib import Path

import pytest
import random_looks
from random_edits import story


@pytest.mark.parametrize("seed", [1, 2, 3])
def test_every_verdict_is_right_and_explained(seed: int, tmp_path: Path) -> None:
    """No false hit, no false miss, and exactly the causes that there are, for several hundred edits."""
    seen = story(tmp_path, seed, 300)
    assert {"cached", "run", "undecided"} == set(seen)


def test_a_remembered_plan_is_shown_only_while_it_is_true(tmp_path: Path) -> None:
    """Whatever is edited, in the spec, beside it, in git or in the store."""
    again, refused = random_looks.story(tmp_path, 1, 80)
    assert again > 0
    assert refused < 40
