"""Names of stages on the command line."""

from __future__ import annotations

import argparse
from collections.abc import Collection, Iterable

from rlhfc.compile.action import Pipeline
from rlhfc.errors import Diagnostic, UserError, did_you_mean
from rlhfc.plan.held import thaw
from rlhfc.plan.select import Selected, Selection, select


def check_stages(option: str, names: Iterable[str], pipeline: Pipeline) -> tuple[str, ...]:
    """The stages of a compiled pipeline that are named, each once.

    Raises:
        UserError: with a diagnostic for each name that no stage has.
    """
    listed = tuple(dict.fromkeys(names))
    check_names(option, listed, pipeline.actions)
    return listed


def check_names(option: str, names: Iterable[str], known: Collection[str]) -> None:
    """Refuse names of stages that are not known.

    Raises:
        UserError: with a diagnostic for each.
    """
    unknown = [name for name in names if name not in known]
    if unknown:
        raise UserError(
            Diagnostic(f"`{option} {name}` names no stage", hint=did_you_mean(name, known, "stages"))
            for name in unknown
        )


def selected_stages(arguments: argparse.Namespace, pipeline: Pipeline) -> Selected:
    """The stages that :func:`rlhfc.cli.options.add_selection_options` asks for.

    Raises:
        UserError: a name is wrong, or the selection leaves out everything or what is to be forced.
    """
    asked = Selection(
        target=check_stages("--target", arguments.target, pipeline),
        start=check_stages("--from", arguments.start, pipeline),
        until=check_stages("--until", arguments.until, pipeline),
        forced=check_stages("--force", arguments.force, pipeline),
    )
    return select(pipeline, asked)


def thawed(arguments: argparse.Namespace, pipeline: Pipeline) -> Pipeline:
    """The pipeline as ``--thaw`` has it.

    Raises:
        UserError: a name is no stage's, or the stage is not frozen.
    """
    check_stages("--thaw", arguments.thaw, pipeline)
    return thaw(pipeline, arguments.thaw)
