"""What all stages of a run share."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Protocol

from rlhfc.compile.digests import Digester
from rlhfc.run.board import Board
from rlhfc.run.process import Launcher, Session
from rlhfc.run.slots import Slots
from rlhfc.run.space import SpaceCheck
from rlhfc.store.store import Store


class Control(Protocol):
    """What a stage's thread asks of the run that it belongs to."""

    def stopping(self) -> bool:
        """Whether nothing new may be started."""

    def ending(self) -> bool:
        """Whether running commands have been told to end, saved or not."""

    def pause(self, seconds: float) -> None:
        """Wait, until the run is stopping at the latest."""

    def watch(self, session: Session, stop_file: Path) -> None:
        """Take a running command into the run's care."""

    def unwatch(self, session: Session) -> None:
        """Release a command that has ended."""


@dataclass(frozen=True)
class Workshop:
    """What all stages of a run share.

    Attributes:
        secrets: of the whole spec: every stage inherits all variables of ours, and may tell them.
        space: refuses what cannot fit on the disk; None where the user wants no such check.
        made: keys that this run has made. Who forces a stage wants it made once, not for each of its
            variants that come to the same.
    """

    run: str
    store: Store
    slots: Slots
    board: Board
    launcher: Launcher
    digests: Digester
    control: Control
    secrets: Mapping[str, str]
    space: SpaceCheck | None = None
    made: set[str] = field(default_factory=set)
