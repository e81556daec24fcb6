"""Names of stages on the command line."""

from __future__ import annotations

import argparse
from collections.abc import Iterable

from rlhfc.compile.action import Pipeline
from rlhfc.errors import Diagnostic, UserError, did_you_mean
from rlhfc.plan.held import thaw


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


def thawed(arguments: argparse.Namespace, pipeline: Pipeline) -> Pipeline:
    """The pipeline as ``--thaw`` has it.

    Raises:
        UserError: a name is no stage's, or the stage is not frozen.
    """
    check_stages("--thaw", arguments.thaw, pipeline)
    return thaw(pipeline, arguments.thaw)
