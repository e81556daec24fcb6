"""A store that most tests of removal begin with."""

import pytest

from rlhfc.store.store import Store


@pytest.fixture
def store(tmp_path):
    """A store whose warnings fail the test."""
    return Store.create(tmp_path / "store", warn=pytest.fail)
