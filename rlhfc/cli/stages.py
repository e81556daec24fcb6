"""Names of stages on the command line."""

from __future__ import annotations

import argparse
from collections.abc import Collection, Iterable

from rlhfc.compile.action import Pipeline, named_in, stage_of
from rlhfc.errors import Diagnostic, UserError, did_you_mean
from rlhfc.plan.held import thaw
from rlhfc.plan.select import Selected, Selection, select


def check_stages(option: str, names: Iterable[str], pipeline: Pipeline) -> tuple[str, ...]:
    """The stages that are named, each once; the name of a stage with variants means all of them.

    Raises:
        UserError: with a diagnostic for each name that no stage has.
    """
    return check_names(option, names, pipeline.actions)


def check_names(option: str, names: Iterable[str], known: Collection[str]) -> tuple[str, ...]:
    """The stages of ``known`` that are named, as :func:`check_stages`.

    Raises:
        UserError: with a diagnostic for each name that no stage has.
    """
    listed = list(names)
    unknown = [name for name in listed if not named_in(name, known)]
    if unknown:
        told = dict.fromkeys(each for name in known for each in (stage_of(name), name))
        raise UserError(
            Diagnostic(f"`{option} {name}` names no stage", hint=did_you_mean(name, told, "stages"))
            for name in unknown
        )
    return tuple(dict.fromkeys(stage for name in listed for stage in named_in(name, known)))


def one_stage(option: str, name: str, pipeline: Pipeline) -> str:
    """The one stage that is named.

    Raises:
        UserError: there is none, or it has variants.
    """
    first, *more = check_stages(option, [name], pipeline)
    if more:
        message = f"`{option} {name}` names {len(more) + 1} variants"
        raise UserError(Diagnostic(message, hint=f"name one of them, for example `{first}`"))
    return first


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
    return thaw(pipeline, check_stages("--thaw", arguments.thaw, pipeline))
