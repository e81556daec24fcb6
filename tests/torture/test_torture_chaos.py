"""A short chaos loop; `make torture ARGS="--chaos 2h"` is the long one."""

import pytest
from chaos import chaos
from lab import BrokenPromiseError, Lab


def test_chaos_for_some_seconds(tmp_path):
    """Three actors run, kill, edit, plan and corrupt on one store: every stage yields what the model says."""
    assert "every promise held" in chaos(tmp_path / "chaos", seconds=8, seed=1)


def test_a_failure_tells_seed_and_last_actions(tmp_path, monkeypatch):
    """What breaks a promise can be repeated."""
    monkeypatch.setattr(Lab, "trees", lambda self: {})
    with pytest.raises(BrokenPromiseError) as caught:
        chaos(tmp_path / "chaos", seconds=20, seed=5)
    assert "a stage yields what it must not" in str(caught.value)
    assert "seed 5" in str(caught.value)
    assert "  actor " in str(caught.value).splitlines()[-1]
