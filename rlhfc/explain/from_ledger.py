"""Runs and results, as the ledger's entries tell of them: pure functions of a list of entries."""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass

from rlhfc.errors import Diagnostic, UserError, listing
from rlhfc.store.ledger_lines import DONE_EVENTS, Entry


@dataclass(frozen=True)
class Made:
    """A result that a stage of a pipeline came to: made, or found in the store.

    Attributes:
        run: the run that made or found it; empty when no run did.
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
            found[entry["key"]] = Made(entry["key"], entry.get("run", ""), entry["time"])
    return list(found.values())


def made_of(entries: Sequence[Entry], key: str) -> Made:
    """The run that made a result, whatever key it stands under; without a ledger run and time are empty."""
    wanted = key
    for entry in reversed(entries):
        if entry.get("key") == wanted and entry["event"] == "published":
            return Made(key, entry["run"], entry["time"])
        if entry.get("key") == wanted and entry["event"] == "accepted":
            wanted = entry["from"]
    return Made(key, "", "")


@dataclass(frozen=True)
class Place:
    """Where a run left a stage: its key, when one was known, and its state."""

    kind: str
    state: str
    key: str | None


def stages_after(entries: Sequence[Entry], run: str) -> dict[str, Place]:
    """Every stage of a pipeline as a run left it.

    A run that died has no last word: then it is the stages that had a result when it was last heard of.
    """
    mine = [place for place, entry in enumerate(entries) if entry.get("run") == run]
    ended = next((entries[place] for place in mine if entries[place]["event"] == "ended"), None)
    if ended is not None:
        return {name: Place(**found) for name, found in ended["stages"].items()}
    pipeline = entries[mine[0]]["pipeline"]
    before = (entry for entry in entries[: mine[-1] + 1] if entry["event"] in DONE_EVENTS)
    return {
        entry["stage"]: Place("", "done", entry["key"]) for entry in before if entry["pipeline"] == pipeline
    }


LAST = re.compile(r"last(?:~(\d+))?")
_SEE = "see `rlhfc history`"


def find_run(entries: Sequence[Entry], prefix: str) -> str:
    """The one run whose identifier begins with ``prefix``; ``last`` and ``last~1`` count from the newest.

    Raises:
        UserError: there is none, or more than one.
    """
    runs: list[str] = list(
        dict.fromkeys(entry["run"] for entry in entries if entry.get("run", "").startswith(prefix))
    )
    if found := LAST.fullmatch(prefix):
        known = [entry["run"] for entry in reversed(entries) if entry["event"] == "run"]
        runs = known[int(found[1] or 0) :][:1]
        if not runs:
            there = f"only {len(known)} runs" if len(known) > 1 else "only 1 run" if known else "no run yet"
            raise UserError(Diagnostic(f"there is no `{prefix}`: the store knows {there}", hint=_SEE))
    if not runs:
        hint = f"{_SEE}; a spec is a file, or `REVISION:PATH` in git"
        raise UserError(Diagnostic(f"`{prefix}` is neither a run nor a spec", hint=hint))
    if len(runs) > 1:
        more = f" and {len(runs) - 3} more" if len(runs) > 3 else ""
        raise UserError(Diagnostic(f"`{prefix}` may be {listing(runs[:3])}{more}", hint="give more of it"))
    return runs[0]
