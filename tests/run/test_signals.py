"""Signals, terminals and pipes: what they ask of a run, and what they cannot cost it."""

import os
import pty
import signal
import subprocess
import sys
import time

from workshop import LAUNCHER, finish, wait_for

SLOW = {"steps": 40, "step_seconds": 0.2}


def command(bench, launcher: str = LAUNCHER) -> list[str]:
    """The command line of a run."""
    return [sys.executable, "-c", launcher, "run", str(bench.spec), "--store", str(bench.folder / "store")]


def variables(bench) -> dict[str, str]:
    """The environment of a run."""
    return {**os.environ, "TOY_TRACE": str(bench.trace_file)}


def log(bench) -> str:
    """What the first attempt of stage `a` has said."""
    found = list((bench.folder / "store" / "work").glob("a-*/attempts/001/log"))
    return found[0].read_text() if found else ""


def test_a_save_takes_as_long_as_it_takes(bench):
    """A checkpoint is asked for by a file: no signal reaches the command, so nothing cuts the save off."""
    bench.write(a={**SLOW, "behave": "slow_save"})
    process = bench.start()
    wait_for(lambda: "a step-2" in bench.trace())
    process.terminate()
    status, _, err = finish(process)
    assert 130 == status
    assert "a has-saved" in bench.trace()
    assert "a is-told-to-end" not in bench.trace()
    assert "a: will resume at step" in err
    assert ["interrupted"] == bench.attempt_states()


def test_sigterm_twice_ends_what_does_not_listen(bench):
    """The second SIGTERM ends a stage that is deaf to the request for a checkpoint."""
    bench.write(a={**SLOW, "steps": 400, "behave": "deaf"})
    process = bench.start()
    wait_for(lambda: "a step-1" in bench.trace())
    process.terminate()
    time.sleep(0.6)
    assert process.poll() is None
    process.terminate()
    assert 130 == finish(process, 20)[0]
    assert (["interrupted"], []) == (bench.attempt_states(), bench.living())


def test_sigquit_shows_where_everything_is_and_goes_on(bench):
    """The run's stacks go to stderr, those of its stages into their logs; nothing is stopped."""
    bench.write(a={"steps": 3, "behave": "silent", "first": 1, "no_progress_timeout": 8.0, "retries": 1})
    process = bench.start()
    wait_for(lambda: "a step-2" in bench.trace())
    time.sleep(0.3)
    process.send_signal(signal.SIGQUIT)
    wait_for(lambda: "hang_in_a_collective" in log(bench))
    assert process.poll() is None
    status, _, err = finish(process)
    assert 0 == status
    assert "most recent call first" in err
    assert "in _collect" in err


def test_a_run_under_nohup_and_setsid_outlives_its_terminal(bench):
    """SIGHUP that is ignored from the beginning stays ignored."""
    bench.write(a={"steps": 8, "step_seconds": 0.2})
    plain = "import sys; from rlhfc.cli.main import main; sys.exit(main())"
    process = subprocess.Popen(
        ["nohup", "setsid", *command(bench, plain)],
        env=variables(bench),
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )
    wait_for(lambda: "a step-2" in bench.trace())
    process.send_signal(signal.SIGHUP)
    status, _, err = finish(process)
    assert 0 == status, err
    assert ["done"] == bench.attempt_states()


def test_a_closed_terminal_costs_no_checkpoint(bench):
    """The terminal goes: SIGHUP asks for a checkpoint, and writing to nobody is no error."""
    bench.write(a={**SLOW, "behave": "slow_save"})
    pid, terminal = pty.fork()
    if pid == 0:
        words = command(bench)
        os.execve(words[0], words, variables(bench))
    wait_for(lambda: "a step-2" in bench.trace())
    os.close(terminal)
    _, status = os.waitpid(pid, 0)
    assert 130 == os.waitstatus_to_exitcode(status)
    assert "a has-saved" in bench.trace()
    assert (["interrupted"], []) == (bench.attempt_states(), bench.living())


def test_nobody_who_reads_costs_no_result(bench):
    """`rlhfc run 2>&1 | head -1`: the run goes on without its audience, and its status is that of the run."""
    bench.write(a={"steps": 6, "step_seconds": 0.2})
    reader, writer = os.pipe()
    process = subprocess.Popen(command(bench), env=variables(bench), stdout=writer, stderr=writer)
    os.close(writer)
    wait_for(lambda: "a step-2" in bench.trace())
    os.close(reader)
    assert 0 == process.wait(60)
    assert ["done"] == bench.attempt_states()
