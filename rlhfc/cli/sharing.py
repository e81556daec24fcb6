"""What ``push`` and ``pull`` share."""

from __future__ import annotations

import argparse
import json
import sys
from dataclasses import asdict, dataclass

from rlhfc.cli.prepare import prepare
from rlhfc.environment import Environment
from rlhfc.errors import Diagnostic, UserError
from rlhfc.plan.planner import Plan, make_plan
from rlhfc.plan.verdict import StoreReader
from rlhfc.remote.opening import open_place
from rlhfc.remote.place import Place, RemoteError
from rlhfc.remote.progress import Tally
from rlhfc.remote.source import with_restores

FORMAT_VERSION = "1.0"
NO_RESULT = "there is no result of this key"

KeyList = list[tuple[str, str | None]]


@dataclass(frozen=True)
class Outcome:
    """What came of one result: of which stage or key, and why where it is a fault."""

    name: str
    key: str | None
    outcome: str
    fault: str | None = None


class Outcomes:
    """Tells of each result as it is dealt with: lines at once, or one JSON document at the end."""

    def __init__(self, *, as_json: bool) -> None:
        self._json = as_json
        self._all: list[Outcome] = []

    def add(self, outcome: Outcome) -> None:
        """Note what came of one, and say it."""
        self._all.append(outcome)
        if outcome.fault is not None:
            print(f"error: {outcome.name}: {outcome.fault}", file=sys.stderr)
        elif not self._json:
            print(f"{outcome.name}: {outcome.outcome}")

    @property
    def failed(self) -> bool:
        """Whether anything is at fault."""
        return any(outcome.fault is not None for outcome in self._all)

    def end(self, verb: str, place: Place, tally: Tally) -> None:
        """Say the sums."""
        if not self._json:
            print(f"{verb} {place.name}: {tally.words()}")
            return
        document = {
            "format_version": FORMAT_VERSION,
            "remote": place.name,
            "results": [asdict(outcome) for outcome in self._all],
            "files": tally.moved,
            "bytes": tally.bytes,
            "files_there": tally.there,
        }
        print(json.dumps(document, indent=2, ensure_ascii=False))


def place_named(url: str | None, option: str, environment: Environment) -> Place:
    """The place that the option names, else the environment.

    Raises:
        UserError: neither does, or it cannot be used.
    """
    named = url or environment.remote
    if named is None:
        hint = f"name it with `{option} URL`, or once with `export RLHFC_REMOTE=URL`"
        raise UserError(Diagnostic("which shared store?", hint=hint))
    return open_place(named)


def check_named(arguments: argparse.Namespace) -> None:
    """Refuse what names results twice.

    Raises:
        UserError: a spec and a key are both given.
    """
    if arguments.key and arguments.spec is not None:
        raise UserError(Diagnostic("`--key` and a spec are both given", hint="leave out one of them"))


def planned_for(arguments: argparse.Namespace, reader: StoreReader) -> Plan:
    """The plan of the spec that is named.

    Raises:
        UserError: the spec, an option or a source is wrong.
    """
    prepared = prepare(arguments)
    for warning in prepared.warnings:
        print(f"warning: {warning}", file=sys.stderr)
    return with_restores(make_plan(prepared.pipeline, reader, prepared.world.libraries), reader)


def unusable(place: Place, error: RemoteError) -> UserError:
    """The shared store failed for good."""
    hint = "run the same command again: what has arrived is not moved again"
    return UserError(Diagnostic(f"the shared store `{place.name}` cannot be used: {error}", hint=hint))


def say(text: str) -> None:
    """One line of progress."""
    print(text, file=sys.stderr, flush=True)
