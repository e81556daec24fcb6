"""The one place where reasons, values and quantities become words."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterable, Mapping
from datetime import UTC, datetime
from typing import Any

from rlhfc.compile.reasons import Reason, ReasonCode
from rlhfc.errors import listing
from rlhfc.plan.compare import Difference

LONGEST_VALUE = 40
SHORT_DIGEST = 11  # "b3:" and 8 hex digits


def sentence(reason: Reason) -> str:
    """One reason in a few words, old → new where there are values."""
    return _SENTENCES[reason.code](reason)


def sentences(reasons: Iterable[Reason]) -> list[str]:
    """Reasons in words; of changed files of code only the first is named."""
    listed = list(reasons)
    code = [reason for reason in listed if reason.code is ReasonCode.CODE_CHANGED]
    words = [sentence(reason) for reason in listed if reason not in code[1:]]
    if len(code) > 1:
        first = sentence(code[0])
        words[words.index(first)] = f"{first} and {len(code) - 1} more"
    return words


def difference(found: Difference) -> str:
    """A value that differs without invalidating: ``log_every 10 → 50``."""
    path = found.path.removeprefix("params.").removeprefix("settings.").removeprefix("libraries.")
    return f"{path} {_arrow(found.before, found.after)}"


def value(given: Any) -> str:
    """A value in one short piece: text bare, the rest as JSON, cut when it is long."""
    if given is None:
        return "none"
    text = given if isinstance(given, str) else json.dumps(given, ensure_ascii=False)
    text = " ".join(text.split())
    if text.startswith(("b3:", "hub:")) and len(text) > SHORT_DIGEST:
        text = text[: max(SHORT_DIGEST, text.index(":") + 9)]
    return text if len(text) <= LONGEST_VALUE else text[: LONGEST_VALUE - 1] + "…"


def duration(seconds: float) -> str:
    """Wall time to two units: ``4 min 10 s``."""
    whole = round(seconds)
    for size, unit, smaller, below in ((86400, "d", 3600, "h"), (3600, "h", 60, "min"), (60, "min", 1, "s")):
        if whole >= size:
            rest = whole % size // smaller
            return f"{whole // size} {unit} {rest} {below}" if rest else f"{whole // size} {unit}"
    return f"{whole} s" if seconds >= 1 else f"{seconds:.1f} s"


def ago(finished: str, now: datetime) -> str:
    """Time since an ISO 8601 instant, to one unit: ``3 d ago``."""
    instant = datetime.fromisoformat(finished)
    if instant.tzinfo is None:
        instant = instant.replace(tzinfo=UTC)
    seconds = (now - instant).total_seconds()
    for size, unit in ((86400, "d"), (3600, "h"), (60, "min")):
        if seconds >= size:
            return f"{int(seconds // size)} {unit} ago"
    return "just now"


def size(count: int) -> str:
    """Bytes with three digits at most: ``2.1 GB``."""
    amount, unit = float(count), "B"
    for larger in ("kB", "MB", "GB", "TB"):
        if amount < 1000:
            break
        amount, unit = amount / 1000, larger
    return f"{amount:.0f} {unit}" if unit == "B" or amount >= 100 else f"{amount:.1f} {unit}"


def _arrow(before: Any, after: Any) -> str:
    old, new = value(before), value(after)
    if old == new:  # long values that differ behind the cut
        return "changed"
    return f"{old} → {new}"


def _changed(what: str) -> Callable[[Reason], str]:
    return lambda reason: f"{what}{reason.path} {_arrow(reason.before, reason.after)}".strip()


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
    ReasonCode.RECORD_MISSING: lambda _: "the store does not remember what its last result was made from",
    ReasonCode.FORCED: lambda _: "forced",
}
