"""What a repair does about each kind of finding. Nothing is deleted; doing it twice changes nothing more."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

from rlhfc.run.attempt import attempts, key_of
from rlhfc.store.files import READ_ONLY, write_atomic
from rlhfc.store.holder import Holder
from rlhfc.store.layout import NAME, VERSION
from rlhfc.store.quarantine import Outcast, Quarantine
from rlhfc.store.records import DamagedRecordError, decode_result, encode_result
from rlhfc.store.store import Store
from rlhfc.upkeep.findings import Finding, Kind

KEPT = ("work", "ledger.jsonl", "VERSION")  # not to be moved as a whole because something in it fails


class NotMendedError(Exception):
    """A finding that a repair leaves; the text says why."""


class Mender:
    """Repairs one store."""

    def __init__(self, store: Store) -> None:
        """Take the store; who calls :meth:`mend` is alone in it, by its own locks."""
        self._store, self._layout = store, store.layout
        self.quarantine = Quarantine(store.layout.root)

    def mend(self, path: Path, finding: Finding) -> None:
        """Put one finding right.

        Args:
            path: what was examined; the finding may be about something in it.
            finding: what is wrong.

        Raises:
            NotMendedError: it is left, for a reason.
            OSError: the disk or its permissions do not allow it.
        """
        place = self._layout.root / finding.place
        match finding.kind:
            case Kind.VERSION_DAMAGED:
                write_atomic(self._layout.version, f"{NAME} {VERSION}\n".encode())
            case Kind.BLOB_WRITABLE:
                place.chmod(READ_ONLY)
            case Kind.RECORD_INCOMPLETE:
                self._aside(place, finding)
                self._store.ledger.append("forgotten", key=f"b3:{place.parent.name}{place.stem}")
            case Kind.METRICS_LOST:
                self._without_metrics(place)
            case Kind.VIEW_DIFFERS:
                self._view(path, place, finding)
            case Kind.WORK_DAMAGED | Kind.CHECKPOINT_DAMAGED:
                self._work(path, place, finding)
            case Kind.UNREADABLE if finding.place.partition("/")[0] in KEPT:
                raise NotMendedError("mend the disk or the permissions")
            case _:
                self._aside(place, finding)

    def _aside(self, place: Path, finding: Finding) -> None:
        self.quarantine.take([Outcast(place, f"{finding.kind}: {finding.why}")])

    def _work(self, work: Path, place: Path, finding: Finding) -> None:
        """Put aside what belongs to an action, unless a run holds its key, on whatever machine."""
        told = (status.key for each in attempts(work) if (status := each.status()) is not None)
        key = key_of(work) or next(told, work.name)
        with self._store.locks.free_key(key, Holder.me()) as held:
            if held is None or any(attempt.lives() for attempt in attempts(work)):
                raise NotMendedError("a run is at work there")
            self._aside(place, finding)

    def _without_metrics(self, place: Path) -> None:
        """Take the metrics out of a record, in one step: losing it would cost the whole result."""
        key = f"b3:{place.parent.name}{place.stem}"
        result = decode_result(place.read_bytes(), key)
        write_atomic(place, encode_result(replace(result, metrics=None)), READ_ONLY)
        self._store.ledger.append("metrics_lost", key=key, metrics=result.metrics)

    def _view(self, view: Path, place: Path, finding: Finding) -> None:
        """Put aside what differs; make the rest again or, where that is not possible, put it aside too."""
        if place != view and place.exists():
            self._aside(place, finding)
        try:
            self._store.view(f"b3:{view.name}")
        except DamagedRecordError:
            if view.exists():
                self._aside(view, finding)
