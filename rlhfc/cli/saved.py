"""Saved plans on the command line: ``rlhfc plan -o FILE`` and ``rlhfc run FILE``."""

from __future__ import annotations

import argparse
import shlex
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from rlhfc.cli import arguments as commands
from rlhfc.errors import Diagnostic, UserError
from rlhfc.plan.document import PlanDocument
from rlhfc.plan.planner import Plan
from rlhfc.plan.saved import SavedPlan, decode, encode, is_saved, saved_stages
from rlhfc.store.files import write_atomic
from rlhfc.store.ledger import utc_now

FORM = ("json", "rehash")  # how an outcome is shown, or a plan is made, is no part of it
START = 64  # bytes by which a saved plan is known


def write_saved(arguments: argparse.Namespace, document: PlanDocument, part: Plan) -> None:
    """Save a plan with what it was made from.

    Args:
        arguments: those of ``rlhfc plan``.
        document: the plan.
        part: the stages that it is about.

    Raises:
        UserError: something else is there already, or the file cannot be written.
    """
    path: Path = arguments.output
    if path.exists() and not holds_plan(path):
        raise UserError(
            Diagnostic(f"`{path}` is there, and is no saved plan", hint="name another file with `-o`")
        )
    options = {action.dest: _plain(getattr(arguments, action.dest)) for action in _shared()}
    saved = SavedPlan(utc_now(), _command(options, path), options, dict(document), saved_stages(part))
    try:
        write_atomic(path, encode(saved))
    except OSError as error:
        raise UserError(Diagnostic(f"cannot write `{path}`: {error.strerror}")) from error


def read_saved(path: Path) -> SavedPlan | None:
    """The saved plan in a file, or None where that is a spec, or nothing.

    Raises:
        UserError: it is a saved plan, and damaged or of another format.
    """
    return decode(path.read_bytes(), str(path)) if holds_plan(path) else None


def take_options(arguments: argparse.Namespace, saved: SavedPlan) -> None:
    """Let the options be those that a saved plan was made with, and remember that nobody typed them.

    Raises:
        UserError: with a diagnostic for each option of the command line that says otherwise.
    """
    wrong = []
    arguments.saved = arguments.spec
    for action in _shared():
        given, then = getattr(arguments, action.dest), saved.options[action.dest]
        if action.option_strings and _was_given(given, action) and _plain(given) != then:
            wrong.append(_contradiction(action.option_strings[0], _plain(given), then))
        setattr(arguments, action.dest, _typed(then, action.type))
    if wrong:
        raise UserError(wrong)


def _command(options: Mapping[str, Any], path: Path) -> str:
    """What makes a saved plan again; options that are as by default are left out."""
    words = ["rlhfc", "plan"]
    for action in _shared():
        value = options[action.dest]
        if not action.option_strings:
            words.append(value)
        elif value != _plain(action.default):
            name = action.option_strings[0]
            each = value if isinstance(value, list) else [value]
            words += [word for item in each for word in ((name,) if item is True else (name, item))]
    return shlex.join([*words, "-o", str(path)])


def holds_plan(path: Path) -> bool:
    """Whether a file is a saved plan, by what it begins with."""
    try:
        with path.open("rb") as stream:
            return is_saved(stream.read(START))
    except OSError:
        return False  # whoever needs the file will say so


def _shared() -> list[argparse.Action]:
    """Arguments that plan and run have in common: what a plan is made from."""
    plan, run = argparse.ArgumentParser(add_help=False), argparse.ArgumentParser(add_help=False)
    commands.plan(plan)
    commands.run(run)
    common = {action.dest for action in plan._actions} & {action.dest for action in run._actions}
    return [action for action in run._actions if action.dest in common - set(FORM)]


def _was_given(value: Any, action: argparse.Action) -> bool:
    """Whether an option stands on the command line; the default itself, written out, does count."""
    return value is not action.default and value != []


def _contradiction(option: str, given: Any, then: Any) -> Diagnostic:
    message = f"`{_written(option, given)}` contradicts the saved plan, which was made "
    message += f"with `{_written(option, then)}`" if then else f"without `{option}`"
    return Diagnostic(message, hint="leave the option out, or plan again with it")


def _written(option: str, value: Any) -> str:
    values = value if isinstance(value, list) else [value]
    return " ".join(f"{option} {item}" for item in values)


def _plain(value: Any) -> Any:
    if isinstance(value, list):
        return [_plain(item) for item in value]
    return str(value) if isinstance(value, Path) else value


def _typed(value: Any, kind: Any) -> Any:
    """What :func:`_plain` was given, by the ``type`` of the option."""
    if isinstance(value, list):
        return [_typed(item, kind) for item in value]
    return kind(value) if callable(kind) and value is not None else value
