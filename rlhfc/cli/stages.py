"""Names of stages on the command line."""

from __future__ import annotations

from collections.abc import Iterable

from rlhfc.compile.action import Pipeline, stage_of
from rlhfc.errors import Diagnostic, UserError, did_you_mean


def check_stages(option: str, names: Iterable[str], pipeline: Pipeline) -> tuple[str, ...]:
    """The stages that are named, each once; the name of a stage with variants means all of them.

    Raises:
        UserError: with a diagnostic for each name that no stage has.
    """
    listed = list(names)
    unknown = [name for name in listed if not pipeline.named(name)]
    if unknown:
        known = dict.fromkeys(each for name in pipeline.actions for each in (stage_of(name), name))
        raise UserError(
            Diagnostic(f"`{option} {name}` names no stage", hint=did_you_mean(name, known, "stages"))
            for name in unknown
        )
    return tuple(dict.fromkeys(stage for name in listed for stage in pipeline.named(name)))


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
