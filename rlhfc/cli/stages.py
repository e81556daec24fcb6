"""Names of stages on the command line."""

from __future__ import annotations

from collections.abc import Collection, Iterable

from rlhfc.compile.action import Pipeline
from rlhfc.errors import Diagnostic, UserError, did_you_mean


def check_stages(option: str, names: Iterable[str], pipeline: Pipeline) -> None:
    """Refuse names that no stage of a compiled pipeline has.

    Raises:
        UserError: with a diagnostic for each.
    """
    check_names(option, names, pipeline.actions)


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
