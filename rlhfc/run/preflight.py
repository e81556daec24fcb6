"""What can be known to fail before anything is started."""

from __future__ import annotations

from collections.abc import Iterator, Mapping

from rlhfc.compile.action import Action, ResolvedSource
from rlhfc.compile.reasons import Reason, ReasonCode
from rlhfc.compile.world import Libraries
from rlhfc.errors import Diagnostic, Mark, UserError
from rlhfc.plan.planner import Plan
from rlhfc.plan.words import sentence
from rlhfc.run.slots import need_of

DOWNLOADER = "huggingface-hub"


def check(plan: Plan, gpus: int, libraries: Libraries, variables: Mapping[str, str]) -> None:
    """Refuse a run whose stages this machine cannot carry out.

    Args:
        plan: the verdicts.
        gpus: those that may be used.
        libraries: version of an installed distribution.
        variables: the environment.

    Raises:
        UserError: with a diagnostic for every stage that lacks GPUs, a library, a source or an
            environment variable.
    """
    found = [
        Diagnostic(f"{name}: {message}", Mark(action.file, action.line, 1), hint)
        for name, action in plan.pipeline.actions.items()
        if plan.stages[name].result is None
        for message, hint in _lacks(action, plan.stages[name].reasons, gpus, libraries)
    ]
    found += [
        Diagnostic(f"{name}: environment variable `{secret}` is not set", mark, f"`export {secret}=…`")
        for name, action in plan.pipeline.actions.items()
        if plan.stages[name].result is None
        for secret, mark in action.secrets.items()
        if not variables.get(secret)
    ]
    if found:
        raise UserError(found)


def faults(
    action: Action,
    reasons: tuple[Reason, ...],
    gpus: int,
    libraries: Libraries,
    variables: Mapping[str, str],
) -> list[tuple[str, str | None]]:
    """What one stage lacks on this machine, each with a hint; arguments as in :func:`check`."""
    unset = [name for name in action.secrets if not variables.get(name)]
    return [
        *_lacks(action, reasons, gpus, libraries),
        *((f"environment variable `{name}` is not set", f"`export {name}=…`") for name in unset),
    ]


def _lacks(
    action: Action, reasons: tuple[Reason, ...], gpus: int, libraries: Libraries
) -> Iterator[tuple[str, str | None]]:
    wanted = need_of(action).gpus
    if wanted > gpus:
        has = f"this machine has {gpus}" if gpus else "this machine has none"
        hint = "set `ranks` to what there is" if gpus else "set `device: cpu`, or run it where there are GPUs"
        yield f"wants {wanted} GPU{'s' if wanted > 1 else ''}, and {has}", hint
    for name in action.kind.libraries:  # whether or not it is in the key
        if libraries(name) is None:
            missing = Reason(ReasonCode.LIBRARY_MISSING, name)
            yield sentence(missing), "install what stages need: `pip install 'rlhfc[train]'`"
    for reason in reasons:
        if reason.code is ReasonCode.SOURCE_UNRESOLVED:
            yield sentence(reason), None
    if libraries(DOWNLOADER) is None:
        for address, binding in action.inputs.items():
            if isinstance(binding, ResolvedSource) and binding.path is None:
                message = f"input {address} has to be downloaded, and `{DOWNLOADER}` is not installed here"
                yield message, "`pip install 'rlhfc[train]'`, or name a local copy with `--mirror ID=FOLDER`"
