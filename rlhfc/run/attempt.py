"""An attempt: one launch of an action, in a folder of its own, with a status that survives crashes.

States: ``running``, then ``done``, ``failed``, ``interrupted``, or ``lost`` when the run that
watched it died.
"""

from __future__ import annotations

import json
import sys
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, Literal

from rlhfc.observe import LOOKED
from rlhfc.run.process import Identity, end_processes, leftovers
from rlhfc.store.files import write_atomic
from rlhfc.store.ledger import utc_now

State = Literal["running", "done", "failed", "interrupted", "lost"]
STATUS_FORMAT = 1


@dataclass(frozen=True)
class Status:
    """What is known of an attempt.

    Attributes:
        run: run that launched it.
        started: UTC time, ISO 8601.
        head: head of its session.
        ended: UTC time, or None while it runs.
        returncode: exit status; below zero the signal; None when nobody saw it.
        reason: why it did not end well.
        devices: GPUs that it had.
    """

    pipeline: str
    stage: str
    key: str
    run: str
    state: State
    started: str
    head: Identity | None = None
    ended: str | None = None
    returncode: int | None = None
    reason: str | None = None
    devices: tuple[int, ...] = ()

    @property
    def seconds(self) -> float:
        """Wall time, 0 while it runs, and where the clock was set back meanwhile."""
        if self.ended is None:
            return 0.0
        taken = datetime.fromisoformat(self.ended) - datetime.fromisoformat(self.started)
        return max(0.0, taken.total_seconds())


@dataclass(frozen=True)
class Attempt:
    """The folder of an attempt."""

    folder: Path

    @property
    def number(self) -> int:
        """1 for the first launch of the action."""
        return int(self.folder.name)

    @property
    def log(self) -> Path:
        """Everything that its processes said."""
        return self.folder / "log"

    def lives(self) -> bool:
        """Whether it runs now: the head of its session is there."""
        status = self.status()
        return status is not None and status.state == "running" and bool(status.head and status.head.lives())

    def status(self) -> Status | None:
        """Read its status; None when none was written or it is damaged."""
        try:
            text = json.loads((self.folder / "status.json").read_bytes())
            if text.pop("format") != STATUS_FORMAT:
                return None
            head = text.pop("head")
            devices = tuple(text.pop("devices"))
            return Status(**text, head=Identity(**head) if head else None, devices=devices)
        except (OSError, ValueError, KeyError, TypeError):
            return None

    def write_status(self, status: Status) -> None:
        """Write its status, atomically and durably."""
        text = {"format": STATUS_FORMAT, **asdict(status)}
        write_atomic(self.folder / "status.json", _json(text))

    def write_launch(
        self, argv: Sequence[str], config: Mapping[str, Any], environment: Mapping[str, str]
    ) -> None:
        """Write what is launched: command, resolved config, and the variables that we add."""
        for name, value in (
            ("argv.json", list(argv)),
            ("config.json", config),
            ("env.json", dict(environment)),
        ):
            write_atomic(self.folder / name, _json(value))


def attempts(work: Path) -> list[Attempt]:
    """List the attempts of an action, oldest first."""
    folder = work / "attempts"
    sys.audit(LOOKED, folder)
    if not folder.is_dir():
        return []
    return [Attempt(path) for path in sorted(folder.iterdir()) if path.name.isdecimal()]


def attempts_since_done(work: Path) -> list[Status]:
    """Read the statuses of the attempts that one result takes: those after the last that was done."""
    statuses: list[Status] = []
    for attempt in attempts(work):
        status = attempt.status()
        if status is not None and status.state == "done":
            statuses.clear()
        elif status is not None:
            statuses.append(status)
    return statuses


def seconds_so_far(work: Path) -> float:
    """Wall time of the attempts since the last that was done; where nobody saw the end, to the last sign."""
    total = 0.0
    for attempt in attempts(work):
        status = attempt.status()
        if status is not None and status.state == "done":
            total = 0.0
        elif status is not None:
            sys.audit(LOOKED, attempt.log)
            total += status.seconds if status.ended else replace(status, ended=_last_sign(attempt)).seconds
    return total


def new_attempt(work: Path) -> Attempt:
    """Make the folder of the next attempt. The caller holds the lock of the action's key."""
    last = attempts(work)
    folder = work / "attempts" / f"{last[-1].number + 1 if last else 1:03d}"
    folder.mkdir(parents=True)
    return Attempt(folder)


def settle_leftovers(work: Path) -> Iterator[str]:
    """Mark attempts whose run died as lost, and end what still lives of them; yield what was done.

    The caller holds the lock of the action's key, so no run watches them any more.
    """
    for attempt in attempts(work):
        status = attempt.status()
        if status is None or status.state != "running":
            continue
        pids = leftovers(attempt.folder, status.head)
        if pids:
            count = f"{len(pids)} processes" if len(pids) > 1 else "1 process"
            yield f"{status.stage}: ended {count} that a dead run had left behind"
            end_processes(pids)
        attempt.write_status(
            replace(status, state="lost", ended=_last_sign(attempt), reason="the run that watched it died")
        )


def _last_sign(attempt: Attempt) -> str:
    """When an attempt last said something: the best that is known of its end."""
    try:
        seconds = attempt.log.stat().st_mtime
    except FileNotFoundError:
        return utc_now()
    return datetime.fromtimestamp(seconds, UTC).isoformat(timespec="milliseconds")


def _json(value: Any) -> bytes:
    return (json.dumps(value, indent=1, ensure_ascii=False, sort_keys=True) + "\n").encode()
