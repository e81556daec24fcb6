"""Samples of the sweeps that let calls fail; `make torture ARGS="--errors --disks"` tries every point."""

from errno import EIO, EMFILE, ENOSPC

import pytest
import sweeps
from disks import full_disks, no_mounts


@pytest.mark.parametrize(("number", "lasting"), [(ENOSPC, True), (EIO, False), (EMFILE, True)])
def test_failing_calls_of_a_run(warm, tmp_path, number, lasting):
    """It says what is wrong, without a traceback; when that is over, the same command finishes."""
    figures = sweeps.errors(warm, tmp_path, number, lasting=lasting, every=233, start=111)
    assert ([], True) == (figures.broken, figures.tried > 1)


@pytest.mark.parametrize(("number", "lasting"), [(ENOSPC, True), (EIO, False), (EMFILE, True)])
def test_failing_calls_of_plan_and_accept(warm, tmp_path, number, lasting):
    """The same; what `accept` says that it has accepted stands."""
    planned, accepted = sweeps.other_commands(warm, tmp_path, number, lasting=lasting, every=13)
    assert ([], []) == (planned.broken, accepted.broken)
    assert min(planned.tried, accepted.tried) >= 1


def test_disk_that_fills_up_in_the_middle_of_a_write(warm, tmp_path):
    """A part of the bytes is written, and no call says more than that: it counts as not written."""
    figures = sweeps.torn(warm, tmp_path, ENOSPC, every=23)
    assert ([], True) == (figures.broken, figures.tried > 1)


@pytest.mark.skipif(no_mounts() is not None, reason=str(no_mounts()))
def test_full_disks(warm, tmp_path):
    """A disk without room for the run, by bytes and by inodes; with room the same command finishes."""
    by_bytes, by_inodes = full_disks(warm, tmp_path, start=15, every=60)
    assert ([], []) == (by_bytes.broken, by_inodes.broken)
    assert min(by_bytes.tried, by_inodes.tried) >= 1
