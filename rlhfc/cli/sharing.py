"""What ``push`` and ``pull`` share."""

from __future__ import annotations

import argparse
import sys

from rlhfc.cli.prepare import prepare
from rlhfc.environment import Environment
from rlhfc.errors import Diagnostic, UserError
from rlhfc.plan.planner import Plan, make_plan
from rlhfc.plan.verdict import StoreReader
from rlhfc.remote.opening import open_place
from rlhfc.remote.place import Place, RemoteError
from rlhfc.remote.source import with_restores

KeyList = list[tuple[str, str | None]]


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
