"""How stages on real ranks end while a checkpoint is being written."""

import pytest
from workbench import Case

pytestmark = pytest.mark.launch
TWO = Case("sft", 1, 2)


def test_a_stop_waits_for_the_checkpoint_of_all_ranks(bench):
    """Asked before the first step is over: status 75, complete after it, and then the same bytes."""
    assert [0, 0] == bench.launch(TWO, "not-stopped")
    assert [75, 75] == bench.launch(TWO, "stopped", stop=True, mutations=["slow"])
    assert ["step-000001"] == bench.checkpoints("stopped")
    assert [0, 0] == bench.launch(TWO, "stopped")
    assert 1 == bench.resumed_at("stopped")
    assert bench.outputs("not-stopped") == bench.outputs("stopped")


def test_a_rank_without_room_ends_all(bench):
    """Its own message has path and bytes, the other says that it was another; no checkpoint is left."""
    assert [74, 74] == bench.launch(TWO, "full", mutations=["no room"])
    log = bench.log("full")
    assert "No space left on device, in writing a file of " in log
    assert "step-000002/" in log
    assert "OSError: [Errno 28] another rank could not write its part of a checkpoint" in log
    assert [] == bench.checkpoints("full")
    assert [0, 0] == bench.launch(TWO, "full")
    assert 0 == bench.resumed_at("full")


def test_a_stage_that_is_refused_completes_its_checkpoint(bench):
    """Status 65 stays 65, and what was being written is not lost."""
    assert [65, 65] == bench.launch(TWO, "refused", mutations=["slow", "refused"])
    assert ["step-000002"] == bench.checkpoints("refused")
