"""Real launches: two ranks under `deepspeed`, killed, stopped and lied about."""

import os
import signal
from pathlib import Path

import pytest
from workshop import finish, wait_for

pytestmark = pytest.mark.launch
RANKS = {"kind": "ranks", "ranks": 2, "device": "cpu", "steps": 8, "step_seconds": 0.3}


def log(bench) -> str:
    """Everything that the newest attempt said."""
    found = sorted((bench.folder / "store" / "work").glob("a-*/attempts/*/log"))
    return found[-1].read_text() if found else ""


def pids(bench, part: str) -> list[int]:
    """Processes of the attempt with a part in their command."""
    commands = {pid: Path(f"/proc/{pid}/cmdline").read_bytes().decode() for pid in bench.living()}
    return [pid for pid, command in commands.items() if part in command and "guard.py" not in command]


def test_stopped_and_killed_ranks_resume(bench):
    """Two ranks stop at a signal with status 75, die with a killed run, and end with the right outputs."""
    bench.write(a=RANKS)
    process = bench.start()
    wait_for(lambda: "rank 1 step 2" in log(bench), 60)
    process.send_signal(signal.SIGTERM)
    assert 130 == finish(process)[0]
    assert (["interrupted"], []) == (bench.attempt_states(), bench.living())

    bench.kill_when(lambda: "rank 1 step 5" in log(bench), seconds=60)

    status, _, err = finish(bench.start())
    assert 0 == status, err
    assert ["interrupted", "lost", "done"] == bench.attempt_states()
    assert "2 ranks" == bench.output(bench.run(), "a")


def test_a_killed_rank_is_the_machines_fault_and_each_rank_has_a_log(bench):
    """`kill -9` of one rank: the launcher ends the other, and the run goes on from the checkpoint.

    What each rank says is in a log of its own, and in whole lines in the common one.
    """
    bench.write(a={**RANKS, "own_logs": True, "retries": 1, "retry_delay": 0.01})
    process = bench.start()
    wait_for(lambda: "rank 1 step 3" in log(bench), 60)
    ranks = pids(bench, "--local_rank=1")
    os.kill(ranks[0], signal.SIGKILL)
    status, _, err = finish(process, 120)
    assert 0 == status, err
    assert "a: a rank of it was killed by signal 9; launching it again" in err
    assert ["failed", "done"] == bench.attempt_states()
    attempt = next((bench.folder / "store" / "work").glob("a-*/attempts/002"))
    for rank in range(2):
        own = (attempt / f"rank{rank}.log").read_text().splitlines()
        assert f"rank {rank} step 8" == own[-1]
        assert all(line.startswith(f"rank {rank} step ") for line in own)
        assert set(own) <= set((attempt / "log").read_text().splitlines())


def test_launcher_that_dies_is_not_believed(bench):
    """`deepspeed` exits with 0 when its helper is killed and leaves the ranks: the stage fails, they end."""
    bench.write(a={**RANKS, "steps": 400})
    process = bench.start()
    wait_for(lambda: "rank 1 step 1" in log(bench), 60)
    (helper,) = pids(bench, "deepspeed.launcher.launch")
    os.kill(helper, signal.SIGKILL)
    status, _, err = finish(process)
    assert 1 == status
    assert "outlived it and was ended" in err
    assert (["failed"], []) == (bench.attempt_states(), bench.living())
