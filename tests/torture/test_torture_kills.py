"""Samples of the sweeps that kill; `make torture ARGS="--kills --deaths --strace"` tries every point."""

import subprocess
import sys
from dataclasses import dataclass

import pytest
import sweeps
from lab import BrokenPromiseError, Lab, recovers
from syscalls import no_strace, system_calls


def test_kill_at_sampled_calls_of_a_run(warm, tmp_path):
    """Whichever call was the last: the same command finishes, with the same bytes, nothing computed twice."""
    figures = sweeps.kills(warm, tmp_path, every=151, start=97)
    assert ([], True) == (figures.broken, figures.tried > 1)


def test_kill_in_the_middle_of_a_write(warm, tmp_path):
    """Half of a file, a record or a ledger line counts for nothing."""
    figures = sweeps.torn(warm, tmp_path, every=23)
    assert ([], True) == (figures.broken, figures.tried > 1)


def test_kill_at_sampled_calls_of_plan_and_accept(warm, tmp_path):
    """A killed `plan` loses nothing; a killed `accept` has accepted, or does when it is asked again."""
    planned, accepted = sweeps.other_commands(warm, tmp_path, every=9)
    assert ([], []) == (planned.broken, accepted.broken)
    assert min(planned.tried, accepted.tried) >= 1


def test_kill_of_stage_and_guard_and_run(warm, tmp_path):
    """Whoever is killed at whatever moment of a stage: nothing lives on, and the same command finishes."""
    figures = sweeps.deaths(warm, tmp_path, every=31)
    assert ([], True) == (figures.broken, figures.tried > 1)


@pytest.mark.skipif(no_strace() is not None, reason=str(no_strace()))
def test_kill_at_sampled_system_calls(warm, tmp_path):
    """The same where the kernel counts, and kills whoever makes the call."""
    figures = system_calls(warm, tmp_path, ("link",), every=9)
    assert ([], True) == (figures.broken, figures.tried > 0)


DAMAGES = {
    "other bytes": lambda lab: flip(next((lab.store / "objects").glob("*/*"))),
    "is not what was written": lambda lab: flip(next((lab.store / "actions").glob("*/*"))),
    "needs the tree": lambda lab: next((lab.store / "trees").glob("*/*")).unlink(),
    "needs the blob": lambda lab: next((lab.store / "objects").glob("*/*")).unlink(),
    r"ledger.jsonl:\d+ is damaged": lambda lab: flip(lab.store / "ledger.jsonl"),
    "has no key document": lambda lab: next((lab.store / "keydocs").glob("*/*")).unlink(),
    "other outputs": lambda lab: lab.values.update(a=9),
    "processes survive": lambda lab: survivor(lab),
}


@pytest.mark.parametrize("promise", DAMAGES)
def test_the_harness_sees_what_is_broken(lab, promise):
    """Each promise that is broken on purpose is named."""
    assert 0 == lab.rlhfc("run").status
    assert 0 == recovers(lab)
    started = DAMAGES[promise](lab)
    try:
        with pytest.raises(BrokenPromiseError, match=promise):
            recovers(lab)
    finally:
        if started is not None:
            started.kill()
            started.wait()


def test_the_harness_sees_what_is_computed_twice(lab):
    """A step that a checkpoint holds and is taken again, and a published stage that runs, are told."""
    lab.rlhfc("run", variables={"LAB_KILL": "b:saved-2:run"})
    with pytest.raises(BrokenPromiseError, match="steps of b that checkpoint 2 holds were taken again"):
        recovers(Liar(**vars(lab), claim=("b", "step-2")))
    lab.rlhfc("run")
    with pytest.raises(BrokenPromiseError, match="a published stage was computed again"):
        recovers(Liar(**vars(lab), claim=("c", "starts")))


@dataclass
class Liar(Lab):
    """A folder whose stages seem to have done one thing more, each time one looks."""

    claim: tuple[str, str] = ("", "")
    looks: int = 0

    def trace(self):
        """See :class:`lab.Lab`."""
        stage, what = self.claim
        self.looks += 1
        return super().trace() + [(stage, "b3:", what)] * self.looks


def flip(path):
    """Change one bit in the middle of a file."""
    path.chmod(0o644)
    data = bytearray(path.read_bytes())
    data[len(data) // 2] ^= 1
    path.write_bytes(data)


def survivor(lab: Lab) -> subprocess.Popen:
    """A process that says that it belongs to an attempt of the store."""
    marker = {"RLHFC_ATTEMPT": f"{lab.store}/work/x/attempts/001"}
    return subprocess.Popen([sys.executable, "-c", "import time; time.sleep(1000)"], env=marker)
