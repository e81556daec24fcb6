"""Runs and results, as the ledger's entries tell of them: pure functions of a list of entries."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from rlhfc.store.ledger import Entry
from rlhfc.store.store import DONE_EVENTS


@dataclass(frozen=True)
class Made:
    """A result that a stage of a pipeline came to: made, or found in the store.

    Attributes:
        run: the run that made or found it.
        time: when, UTC, ISO 8601.
    """

    key: str
    run: str
    time: str


def results_of(entries: Sequence[Entry], pipeline: str, stage: str) -> list[Made]:
    """Results of a stage, the newest first, each key once."""
    found: dict[str, Made] = {}
    for entry in reversed(entries):
        mine = entry["event"] in DONE_EVENTS and (entry["pipeline"], entry["stage"]) == (pipeline, stage)
        if mine and entry["key"] not in found:
            found[entry["key"]] = Made(entry["key"], entry["run"], entry["time"])
    return list(found.values())


def made_of(entries: Sequence[Entry], key: str) -> Made:
    """The run that made a result; a ledger that was lost leaves run and time empty."""
    for entry in reversed(entries):
        if entry["event"] == "published" and entry["key"] == key:
            return Made(key, entry["run"], entry["time"])
    return Made(key, "", "")
