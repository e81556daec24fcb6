"""Values and quantities in words. Standard library only: a plan that is known already is shown with it."""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping
from datetime import UTC, datetime
from typing import Any

LONGEST_VALUE = 40
SHORT_DIGEST = 11  # "b3:" and 8 hex digits
SHORT_COMMIT = 7
CODE_CHANGED = "code_changed"


def merged(reasons: Iterable[tuple[str, str]]) -> list[str]:
    """Sentences of reasons, given with their codes; of changed files of code only the first is named."""
    listed = list(reasons)
    code = [text for found, text in listed if found == CODE_CHANGED]
    words = [text for found, text in listed if found != CODE_CHANGED or text == code[0]]
    return [
        f"{text} and {len(code) - 1} more" if len(code) > 1 and text == code[0] else text for text in words
    ]


def difference(path: str, before: Any, after: Any) -> str:
    """A value that differs without invalidating: ``log_every 10 → 50``."""
    short = path.removeprefix("params.").removeprefix("settings.").removeprefix("libraries.")
    return f"{short} {arrow(before, after)}"


def arrow(before: Any, after: Any) -> str:
    """Old and new value: ``10 → 50``."""
    old, new = value(before), value(after)
    if old == new:  # long values that differ behind the cut
        return "changed"
    return f"{old} → {new}"


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


def commit(found: Mapping[str, Any]) -> str:
    """A commit as it is shown: ``4f1c9e2 (dirty)``."""
    return str(found["id"])[:SHORT_COMMIT] + (" (dirty)" if found["dirty"] else "")


def size(count: int) -> str:
    """Bytes with three digits at most: ``2.1 GB``."""
    amount, unit = float(count), "B"
    for larger in ("kB", "MB", "GB", "TB"):
        if amount < 1000:
            break
        amount, unit = amount / 1000, larger
    return f"{amount:.0f} {unit}" if unit == "B" or amount >= 100 else f"{amount:.1f} {unit}"
