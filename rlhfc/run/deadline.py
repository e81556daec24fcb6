"""Times that people give, and the moment by which a run has to have stopped."""

from __future__ import annotations

import re
import time
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path

from rlhfc.errors import Diagnostic, UserError
from rlhfc.plan.quantities import duration
from rlhfc.store.checkpoints import COMPLETE, step_folders

UNITS = {"d": 86400.0, "h": 3600.0, "min": 60.0, "m": 60.0, "s": 1.0}
PART = re.compile(r"(\d+(?:\.\d+)?)\s*(d|h|min|m|s)\s*")
MARGIN = 120.0  # seconds before the deadline at which stages are asked to save, at least
SPARE = 1.5  # times as long as the longest save so far
LONGEST_SAVE = 3600.0  # seconds; what looks longer was copied here with its times
PERIOD_SECONDS = 5.0  # between two looks at the checkpoints


@dataclass(frozen=True)
class Deadline:
    """When a run has to have stopped.

    Attributes:
        text: as the user gave it.
        margin: seconds before it at which running stages are asked to save, at least.
        remaining: seconds until then.
    """

    text: str
    margin: float
    remaining: Callable[[], float]

    def asks(self, saving: float) -> bool:
        """Whether it is time to save and stop, where a save may take ``saving`` seconds."""
        return self.remaining() <= max(self.margin, saving)

    def over(self) -> bool:
        """Whether it has passed."""
        return self.remaining() <= 0


def parse_deadline(text: str, margin: float) -> Deadline:
    """Read ``2026-11-23T08:00`` (local time unless it says otherwise) or ``3h50m`` from now.

    Raises:
        UserError: it is neither, or it has passed.
    """
    seconds = parse_seconds(text)
    if seconds is not None:
        end = time.monotonic() + seconds
        return Deadline(text, margin, lambda: end - time.monotonic())
    try:
        moment = datetime.fromisoformat(text).astimezone().timestamp()
    except ValueError:
        hint = "give a moment such as `2026-11-23T08:00`, or a time from now such as `3h50m`"
        raise UserError(Diagnostic(f"`--stop-before {text}` is no time", hint=hint)) from None
    if moment <= time.time():
        raise UserError(Diagnostic(f"`--stop-before {text}` has passed", hint="name a later moment"))
    return Deadline(text, margin, lambda: moment - time.time())


def parse_margin(text: str | None) -> float:
    """Read ``--stop-margin``: seconds, two minutes where nothing is said.

    Raises:
        UserError: it is no time.
    """
    seconds = MARGIN if text is None else parse_seconds(text)
    if seconds is None:
        raise UserError(Diagnostic(f"`--stop-margin {text}` is no time", hint="give one such as `5min`"))
    return seconds


def parse_seconds(text: str) -> float | None:
    """Read ``3h50m``, ``90s``, ``1.5 h``; None when it is something else."""
    parts, end = [], 0
    for found in PART.finditer(text):
        if found.start() != end:
            return None
        parts.append(float(found[1]) * UNITS[found[2]])
        end = found.end()
    return sum(parts) if parts and end == len(text) else None


class Lookout:
    """Tells how hard a run has to stop for its deadline."""

    def __init__(self, deadline: Deadline, works: Callable[[], Iterable[Path]]) -> None:
        """Take the deadline, and what tells the folders of the actions that run now."""
        self._deadline, self._works = deadline, works
        self._looked, self._saving = -PERIOD_SECONDS, 0.0

    def level(self) -> int:
        """0 to go on, 1 to save and stop, 2 to end at once."""
        now = time.monotonic()
        if now - self._looked >= PERIOD_SECONDS:
            self._looked, self._saving = now, saving_seconds(self._works())
        if self._deadline.over():
            return 2
        return int(self._deadline.asks(self._saving))

    @property
    def words(self) -> str:
        """Why running stages are asked to stop."""
        left = self._deadline.remaining()
        when = f"{duration(left)} from now" if left > 0 else "now"
        return f"stopped for `--stop-before {self._deadline.text}`, which is {when}"


def saving_seconds(works: Iterable[Path]) -> float:
    """How long the next checkpoint may take: the longest of those that are there, with something to spare.

    Args:
        works: folders of running actions.
    """
    taken = (_taken(folder) for work in works for folder in step_folders(work))
    return SPARE * max(taken, default=0.0)


def _taken(folder: Path) -> float:
    """Seconds between the first file of a checkpoint and the file that says that it is complete."""
    try:
        complete = (folder / COMPLETE).stat().st_mtime
        first = min(path.stat().st_mtime for path in folder.rglob("*") if path.is_file())
    except (OSError, ValueError):
        return 0.0
    return min(complete - first, LONGEST_SAVE)
