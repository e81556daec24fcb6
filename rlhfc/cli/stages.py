"""Names of stages on the command line."""

from __future__ import annotations

import argparse
from collections.abc import Iterable

from rlhfc.cli.prepare import Prepared
from rlhfc.compile.action import Pipeline
from rlhfc.errors import Diagnostic, UserError, did_you_mean
from rlhfc.plan.select import Selected, Selection, select


def check_stages(option: str, names: Iterable[str], pipeline: Pipeline) -> None:
    """Refuse names that no stage has.

    Raises:
        UserError: with a diagnostic for each.
    """
    unknown = [name for name in names if name not in pipeline.actions]
    if unknown:
        raise UserError(
            Diagnostic(
                f"`{option} {name}` names no stage", hint=did_you_mean(name, pipeline.actions, "stages")
            )
            for name in unknown
        )


def selected_stages(arguments: argparse.Namespace, prepared: Prepared) -> Selected:
    """The stages that :func:`rlhfc.cli.options.add_selection_options` asks for.

    Raises:
        UserError: a name is wrong, or the selection leaves out everything or what is to be forced.
    """
    asked = Selection(tuple(arguments.target), tuple(arguments.start), tuple(arguments.until))
    given = {"--target": asked.target, "--from": asked.start, "--until": asked.until}
    for option, names in {**given, "--force": arguments.force}.items():
        check_stages(option, names, prepared.pipeline)
    selected = select(prepared.pipeline, asked)
    lost = [name for name in arguments.force if name not in selected.chosen]
    if lost:
        raise UserError(Diagnostic(f"`--force {name}` is left out by `{asked}`") for name in lost)
    return selected
