"""An attempt: one launch of an action, in a folder of its own, with a status that survives crashes.

States: ``running``, then ``done``, ``failed``, ``interrupted``, or ``lost`` when the run that
watched it died. ``running`` begins before the process does and ends after the result is published, so
that whatever a crash leaves in between is known by it.
"""

from __future__ import annotations

import json
import shutil
import sys
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass, field, replace
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, Literal

from rlhfc.identity import Identity
from rlhfc.observe import LOOKED
from rlhfc.run.fault import Fault
from rlhfc.run.machine import machine_facts
from rlhfc.run.process import end_processes, leftovers
from rlhfc.store.checkpoints import COMPLETE, newest_checkpoint, places
from rlhfc.store.files import remove_tree, write_atomic
from rlhfc.store.guarded import guarded, unguarded
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
        host: machine that it ran on.
        fault: what kind of fault ended it, of those in ``fault.py``.
        checkpoint_before: step of the checkpoint that it went on from, 0 for none.
        checkpoint_after: step of the newest checkpoint at its end; None when nobody looked.
        checkpoint_size: bytes of that checkpoint.
        adjusted: leaves that it had otherwise than the spec, with their values.
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
    host: str = ""
    fault: Fault | None = None
    checkpoint_before: int = 0
    checkpoint_after: int | None = None
    checkpoint_size: int | None = None
    adjusted: Mapping[str, int] = field(default_factory=dict)

    @property
    def progressed(self) -> bool:
        """Whether it left a newer checkpoint than it found."""
        return (self.checkpoint_after or 0) > self.checkpoint_before

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
            text = unguarded((self.folder / "status.json").read_bytes())
            if text.pop("format") != STATUS_FORMAT:
                return None
            head = text.pop("head")
            devices, fault = tuple(text.pop("devices")), text.pop("fault", None)
            found = Status(
                **text,
                head=Identity(**head) if head else None,
                devices=devices,
                fault=Fault(fault) if fault else None,
            )
            for time in filter(None, (found.started, found.ended)):
                datetime.fromisoformat(time)
            return found
        except (OSError, ValueError, KeyError, TypeError):
            return None

    def write_status(self, status: Status) -> None:
        """Write its status, atomically and durably."""
        text = guarded({"format": STATUS_FORMAT, **asdict(status)})
        write_atomic(self.folder / "status.json", _json(text))

    def write_launch(
        self, argv: Sequence[str], config: Mapping[str, Any], environment: Mapping[str, str]
    ) -> None:
        """Write what is launched: command, resolved config, the variables that we add, and the machine."""
        for name, value in (
            ("argv.json", list(argv)),
            ("config.json", config),
            ("env.json", dict(environment)),
            ("machine.json", machine_facts()),
        ):
            write_atomic(self.folder / name, _json(value))


def key_of(work: Path) -> str | None:
    """Key of the action that a work folder is for; None when it does not say so."""
    try:
        return str(unguarded((work / "key.json").read_bytes())["key"])
    except (OSError, ValueError, KeyError, TypeError):
        return None


def attempts(work: Path) -> list[Attempt]:
    """List the attempts of an action, oldest first."""
    return [Attempt(path) for path in places(work) if path != work][::-1]


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


def take_over(work: Path, attempt: Attempt, scratch: Path) -> None:
    """Move the checkpoints of the attempt before to this one, with a copy of its metrics; drop its outputs.

    No two attempts write to one place: what a run that was taken for dead still writes, it writes where
    nobody looks any more. So a checkpoint that is not complete goes, as someone may have it open.
    """
    mine = attempt.folder / "checkpoints"
    earlier = [place for place in places(work) if place != attempt.folder]
    for place in earlier:
        if not mine.exists() and (place / "checkpoints").is_dir():
            (place / "checkpoints").rename(mine)
            if (place / "metrics.jsonl").exists():
                shutil.copyfile(place / "metrics.jsonl", attempt.folder / "metrics.jsonl")
        if (place / "out").exists():
            remove_tree(place / "out", scratch)
    mine.mkdir(exist_ok=True)
    for step in mine.glob("step-*"):
        if step.is_symlink() or not (step / COMPLETE).exists():  # a link would lead out of the store
            remove_tree(step, scratch)


def remove_outputs(work: Path, scratch: Path, last: int | None = None) -> None:
    """Drop what a published action no longer needs: its outputs and checkpoints.

    Args:
        work: folder of the action.
        scratch: on the same file system.
        last: number of the attempt that has published; later ones are another run's.
    """
    for place in places(work):
        if place == work or last is None or int(place.name) <= last:
            for name in ("out", "checkpoints"):
                if (place / name).is_dir():
                    remove_tree(place / name, scratch)


def settle_leftovers(work: Path) -> Iterator[str]:
    """Mark attempts whose run died as lost, and end what still lives of them; yield what was done.

    The caller holds the lock of the action's key, so no run watches them any more. What cannot be ended
    from here, on another machine, is asked to stop: its run may be frozen, and its command at work.
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
        (attempt.folder / "stop").touch()
        left = newest_checkpoint(work, status.key)
        attempt.write_status(
            replace(
                status,
                state="lost",
                ended=_last_sign(attempt),
                reason="the run that watched it died",
                checkpoint_after=left[0] if left else 0,
            )
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
