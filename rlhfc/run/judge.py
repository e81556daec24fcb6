"""How an attempt ended: done, or why not."""

from __future__ import annotations

import os

from rlhfc.compile.action import WorkPaths
from rlhfc.run import logs
from rlhfc.run.attempt import Attempt, State
from rlhfc.run.outcome import Failure
from rlhfc.run.process import Exit
from rlhfc.run.verify import Manifest, UnverifiedError, verify

USER_ERROR = os.EX_DATAERR  # 65
SAVED = os.EX_TEMPFAIL  # 75
TAIL_LINES = 20


class StageFailedError(Exception):
    """The stage did not end well.

    Attributes:
        state: what its attempt's status says.
    """

    def __init__(self, state: State, failure: Failure) -> None:
        super().__init__(failure.message)
        self.state = state
        self.failure = failure


def judge(exit: Exit, attempt: Attempt, paths: WorkPaths, key: str, *, ending: bool) -> Manifest:
    """Decide whether an attempt is done; return its outputs manifest if it is.

    Args:
        exit: how its command ended.
        attempt: its folder.
        paths: where it wrote.
        key: its action key.
        ending: whether the run had told it to end at once.

    Raises:
        StageFailedError: it is not done.
    """
    if exit.survivors:
        raise _failed(attempt, exit, f"its process `{exit.survivors[0]}` outlived it and was ended")
    if exit.returncode == SAVED:
        raise _interrupted(attempt, exit, "stopped with a checkpoint")
    if exit.returncode == USER_ERROR:
        raise _user_error(attempt, exit)
    if exit.returncode != 0:
        if ending:
            raise _interrupted(attempt, exit, "stopped before it had saved a checkpoint")
        raise _failed(attempt, exit, _ending(exit.returncode))
    try:
        return verify(paths.manifest, key, paths.outputs)
    except UnverifiedError as error:
        if ending:
            raise _interrupted(attempt, exit, "stopped before it had saved a checkpoint") from error
        raise _failed(attempt, exit, f"exited with status 0, but {error}") from error


def _failed(attempt: Attempt, exit: Exit, message: str) -> StageFailedError:
    lines = tuple(logs.tail(attempt.log, TAIL_LINES, noise=False))
    return StageFailedError(
        "failed", Failure(message, returncode=exit.returncode, log=attempt.log, tail=lines)
    )


def _interrupted(attempt: Attempt, exit: Exit, message: str) -> StageFailedError:
    return StageFailedError("interrupted", Failure(message, returncode=exit.returncode, log=attempt.log))


def _user_error(attempt: Attempt, exit: Exit) -> StageFailedError:
    """Take the stage's own words, which need no traceback."""
    said = logs.user_error(attempt.log)
    if said is None:
        return _failed(attempt, exit, _ending(exit.returncode))
    message, hint = said
    return StageFailedError("failed", Failure(message, hint, exit.returncode, attempt.log))


def _ending(returncode: int | None) -> str:
    if returncode is None:
        return "its guard was killed, so nobody saw it end"
    if returncode < 0:
        return f"killed by signal {-returncode}"
    return f"exited with status {returncode}"
