"""The shared store as a plan and a run see it: what it has counts as there, and its failing costs a warning.

``RLHFC_REMOTE`` names it, and with ``RLHFC_SIGNERS`` only records count that one of these keys has
signed. Neither is a setting of a spec: whoever writes specs must not send those who run them to
places of his, and where a result comes from is no part of it.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

from rlhfc.environment import Environment
from rlhfc.plan.planner import Plan
from rlhfc.plan.verdict import StoreReader, Verdict
from rlhfc.remote.opening import open_place
from rlhfc.remote.place import Place, RemoteError
from rlhfc.remote.progress import Tally
from rlhfc.remote.pull import Finder, Puller
from rlhfc.remote.record import RefusedError, Shared
from rlhfc.remote.sign import Signers, read_signers
from rlhfc.store.records import ActionResult
from rlhfc.store.store import Store

BELIEVED_SECONDS = 60.0  # a plan's "not there", until the stage's turn comes in the run


@dataclass(frozen=True)
class _Answer:
    record: Shared | None
    document: Mapping[str, Any] | None
    asked: float


class Source:
    """Asks one place for results. The first failure is told, and then it is left alone."""

    def __init__(
        self,
        place: Place,
        signers: Signers | None,
        warn: Callable[[str], None],
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self.name = place.name
        self._finder = Finder(place, signers)
        self._warn, self._clock = warn, clock
        self._answers: dict[str, _Answer] = {}
        self._usable = True

    def find(self, key: str) -> Shared | None:
        """The record of a key, where it is there and counts.

        Each key is asked for once; for one that was not there, once more when a minute has passed.
        """
        known = self._answers.get(key)
        if known is not None and (known.record or self._clock() - known.asked < BELIEVED_SECONDS):
            return known.record
        record = document = None
        if self._usable:
            try:
                record = self._finder.find(key)
                document = self._finder.document(record) if record is not None else None
            except RefusedError as error:
                record = None
                self._warn(f"{error}; it is not used")
            except RemoteError as error:
                self._leave(error)
        self._answers[key] = _Answer(record, document, self._clock())
        return record

    def document(self, key: str) -> Mapping[str, Any] | None:
        """What is kept beside a key that has been found."""
        known = self._answers.get(key)
        return known.document if known is not None else None

    def warn_to(self, warn: Callable[[str], None]) -> None:
        """Tell from now on elsewhere what goes wrong."""
        self._warn = warn

    def forget(self, key: str) -> None:
        """Do not offer this key any more."""
        self._answers[key] = _Answer(None, None, float("inf"))

    def restore(
        self, store: Store, key: str, ports: Collection[str], stopping: Callable[[], bool]
    ) -> ActionResult | None:
        """Take a result that has been found into a store; None when it cannot be had after all.

        Raises:
            GivenUpError: ``stopping`` turned true.
        """
        record = self.find(key)
        if record is None:
            return None
        try:
            return Puller(store, self._finder, self.name, Tally(), stopping).take(record, ports)
        except RefusedError as error:
            self._warn(f"{error}; it is not used")
        except RemoteError as error:
            self._leave(error)
        except OSError as error:
            self._warn(f"`{key}` could not be restored: {error.strerror or error}")
        self.forget(key)
        return None

    def _leave(self, error: RemoteError) -> None:
        if self._usable:
            self._usable = False
            self._warn(f"the shared store `{self.name}` cannot be used, and is left alone: {error}")


def configured_source(environment: Environment, warn: Callable[[str], None]) -> Source | None:
    """The shared store that the environment names, if it does.

    Raises:
        UserError: it names nothing that can be used here, or the keys that are trusted cannot be read.
    """
    if environment.remote is None:
        return None
    return Source(open_place(environment.remote), signers_of(environment), warn)


def signers_of(environment: Environment) -> Signers | None:
    """Whose signatures are asked for, or None where none are.

    Raises:
        UserError: the file cannot be read, or holds no key.
    """
    return read_signers(environment.signers) if environment.signers is not None else None


class Both:
    """A store with a shared one behind it, to read. See :class:`rlhfc.plan.verdict.StoreReader`."""

    def __init__(self, store: StoreReader, source: Source) -> None:
        self.store, self.source = store, source
        self._away: set[str] = set()

    def is_away(self, key: str) -> bool:
        """Whether the result that was found last under a key is in the shared store only."""
        return key in self._away

    def lookup(self, key: str) -> ActionResult | None:
        """Result of an action, here or there."""
        here = self.store.lookup(key)
        if here is not None:
            self._away.discard(key)
            return here
        record = self.source.find(key)
        if record is None:
            self._away.discard(key)
            return None
        self._away.add(key)
        return record.yielded

    def key_document(self, key: str) -> Mapping[str, Any] | None:
        """What was kept beside a key, where its result is."""
        return self.source.document(key) if self.is_away(key) else self.store.key_document(key)

    def last_key(self, pipeline: str, stage: str) -> str | None:
        """Key of the stage's last result in this pipeline, here."""
        return self.store.last_key(pipeline, stage)

    def earlier_keys(self, pipeline: str, stage: str) -> Sequence[str]:
        """Keys of the stage's results in this pipeline before the last one, here."""
        return self.store.earlier_keys(pipeline, stage)

    def keys_from(self, start: str) -> list[str]:
        """Keys of results here that begin so."""
        return self.store.keys_from(start)

    def checkpoint(self, stage: str, key: str) -> tuple[int, int] | None:
        """Step of the newest complete checkpoint here, and the last step."""
        return self.store.checkpoint(stage, key)


def with_restores(plan: Plan, reader: StoreReader) -> Plan:
    """The plan that was made with ``reader``: what only a shared store has is to be restored."""
    if not isinstance(reader, Both):
        return plan
    stages = {
        name: replace(planned, verdict=Verdict.RESTORE)
        if planned.verdict is Verdict.CACHED and planned.key is not None and reader.is_away(planned.key)
        else planned
        for name, planned in plan.stages.items()
    }
    return Plan(plan.pipeline, stages)
