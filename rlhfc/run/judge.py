"""How an attempt ended: done, or why not."""

from __future__ import annotations

from rlhfc.compile.action import WorkPaths
from rlhfc.run import logs
from rlhfc.run.attempt import Attempt, State
from rlhfc.run.fault import OUT_OF_MEMORY, SAVED, Fault, fault_of, killer
from rlhfc.run.outcome import Failure
from rlhfc.run.process import Exit
from rlhfc.run.verify import Manifest, UnverifiedError, verify

TAIL_LINES = 20
UNSAVED = "stopped before it had saved a checkpoint"


class StageFailedError(Exception):
    """The stage did not end well.

    Attributes:
        state: what its attempt's status says.
        fault: what kind of fault it was; None for one that was asked to stop.
    """

    def __init__(self, state: State, failure: Failure, fault: Fault | None = None) -> None:
        super().__init__(failure.message)
        self.state, self.failure, self.fault = state, failure, fault


def judge(
    exit: Exit,
    attempt: Attempt,
    paths: WorkPaths,
    key: str,
    *,
    ending: bool,
    killed_for_memory: bool = False,
) -> Manifest:
    """Decide whether an attempt is done; return its outputs manifest if it is.

    Args:
        exit: how its command ended.
        attempt: its folder.
        paths: where it wrote.
        key: its action key.
        ending: whether the run had told it to end at once.
        killed_for_memory: whether the kernel has killed a process here for want of memory meanwhile.

    Raises:
        StageFailedError: it is not done.
    """
    if exit.returncode == SAVED and not exit.survivors:
        raise _interrupted(attempt, exit, "stopped with a checkpoint")
    if exit.returncode != 0:
        fault = fault_of(exit.returncode, attempt.log, killed_for_memory=killed_for_memory)
        raise _ended_badly(attempt, exit, fault, ending=ending)
    if exit.survivors:
        # The launcher has died and left its ranks, unless these had written their manifest.
        fault = Fault.STAGE if paths.manifest.exists() else Fault.MACHINE
        raise _failed(attempt, exit, _outlived(exit), fault)
    try:
        return verify(paths.manifest, key, paths.outputs)
    except UnverifiedError as error:
        if ending:
            raise _interrupted(attempt, exit, UNSAVED) from error
        # Without a manifest the ranks never came to their end: a launcher that was killed, and lies.
        fault = Fault.STAGE if paths.manifest.exists() else Fault.MACHINE
        raise _failed(attempt, exit, f"exited with status 0, but {error}", fault) from error


def _ended_badly(attempt: Attempt, exit: Exit, fault: Fault, *, ending: bool) -> StageFailedError:
    """Say what a command did whose status is not 0."""
    if fault is Fault.USER:
        return _user_error(attempt, exit)
    if ending:
        return _interrupted(attempt, exit, UNSAVED)
    message = _ending(exit, fault, attempt)
    if exit.returncode is not None:  # else what lives on is no fault of the command's
        message = _outlived(exit) or message
    return _failed(attempt, exit, message, fault)


def _outlived(exit: Exit) -> str:
    return f"its process `{exit.survivors[0]}` outlived it and was ended" if exit.survivors else ""


def _failed(attempt: Attempt, exit: Exit, message: str, fault: Fault) -> StageFailedError:
    lines = tuple(logs.tail(attempt.log, TAIL_LINES, noise=False))
    failure = Failure(message, returncode=exit.returncode, log=attempt.log, tail=lines)
    return StageFailedError("failed", failure, fault)


def _interrupted(attempt: Attempt, exit: Exit, message: str) -> StageFailedError:
    return StageFailedError("interrupted", Failure(message, returncode=exit.returncode, log=attempt.log))


def _user_error(attempt: Attempt, exit: Exit) -> StageFailedError:
    """Take the stage's own words, which need no traceback."""
    said = logs.user_error(attempt.log)
    if said is None:
        return _failed(attempt, exit, _ending(exit, Fault.USER, attempt), Fault.USER)
    message, hint = said
    failure = Failure(message, hint, exit.returncode, attempt.log)
    return StageFailedError("failed", failure, Fault.USER)


def _ending(exit: Exit, fault: Fault, attempt: Attempt) -> str:
    if exit.returncode is None:
        return "its guard was killed, so nobody saw it end"
    if fault is Fault.MEMORY:
        by_kernel = "" if exit.returncode == OUT_OF_MEMORY else _by_signal(exit, attempt)
        return f"ran out of memory{by_kernel and f': {by_kernel}'}"
    return _by_signal(exit, attempt) or f"exited with status {exit.returncode}"


def _by_signal(exit: Exit, attempt: Attempt) -> str:
    number = killer(exit.returncode, logs.tail(attempt.log, TAIL_LINES))
    if number is None:
        return ""
    whose = "" if exit.returncode is not None and exit.returncode < 0 else "a rank of it was "
    return f"{whose}killed by signal {number}"
