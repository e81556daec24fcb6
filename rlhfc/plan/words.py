"""The one place where reasons become words; values and quantities do in :mod:`rlhfc.plan.quantities`."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping

from rlhfc.compile.reasons import Reason, ReasonCode
from rlhfc.errors import listing
from rlhfc.plan.quantities import arrow, merged


def sentence(reason: Reason) -> str:
    """One reason in a few words, old → new where there are values."""
    return _SENTENCES[reason.code](reason)


def sentences(reasons: Iterable[Reason]) -> list[str]:
    """Reasons in words; of changed files of code only the first is named."""
    return merged((reason.code, sentence(reason)) for reason in reasons)


def _changed(what: str) -> Callable[[Reason], str]:
    return lambda reason: f"{what}{reason.path} {arrow(reason.before, reason.after)}".strip()


def _file(reason: Reason) -> str:
    if reason.before is None:
        return f"code has `{reason.path}` now"
    if reason.after is None:
        return f"code has no `{reason.path}` any more"
    return f"code of `{reason.path}` changed"


_SENTENCES: Mapping[ReasonCode, Callable[[Reason], str]] = {
    ReasonCode.NEVER_RUN: lambda _: "never run",
    ReasonCode.KIND_CHANGED: _changed("kind"),
    ReasonCode.ABI_CHANGED: _changed("version of the kind"),
    ReasonCode.PARAMETER_CHANGED: _changed(""),
    ReasonCode.SETTING_CHANGED: _changed(""),
    ReasonCode.ENGINE_CHANGED: _changed("DeepSpeed config: "),
    ReasonCode.INPUT_CHANGED: _changed("input "),
    ReasonCode.CODE_CHANGED: _file,
    ReasonCode.LIBRARY_CHANGED: _changed(""),
    ReasonCode.COMMAND_CHANGED: lambda _: "launch command changed",
    ReasonCode.UPSTREAM_PENDING: lambda reason: f"input {reason.path} waits for {reason.after}",
    ReasonCode.SOURCE_UNRESOLVED: lambda reason: f"input {reason.path}: {reason.after}",
    ReasonCode.LIBRARY_MISSING: lambda reason: f"{listing([reason.path])} is not installed here",
    ReasonCode.RESULT_MISSING: lambda _: "its result is no longer whole in the store",
    ReasonCode.OUTPUT_MISSING: lambda reason: f"its result has no output `{reason.path}` yet",
    ReasonCode.RECORD_MISSING: lambda _: "the store does not remember what its last result was made from",
    ReasonCode.FORCED: lambda _: "forced",
}
