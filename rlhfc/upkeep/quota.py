"""How much a store may hold. The limit lies in the store, as it is one for all who use it."""

from __future__ import annotations

import json
import re

from rlhfc.errors import Diagnostic, UserError
from rlhfc.plan.quantities import size
from rlhfc.store.files import sync_folder, write_atomic
from rlhfc.store.guarded import guarded, unguarded
from rlhfc.store.layout import Layout
from rlhfc.upkeep.inventory import disk_usage

UNITS: dict[str, int] = {"": 1, **{unit: 1000**n for n, unit in enumerate(("k", "m", "g", "t"), start=1)}}
BINARY: dict[str, int] = {f"{unit}i": 1024**n for n, unit in enumerate(("k", "m", "g", "t"), start=1)}
SIZE = re.compile(r"(\d+(?:\.\d+)?)\s*([kmgt]i?)?b?", re.IGNORECASE)


def bytes_of(option: str, text: str) -> int:
    """Bytes that a size such as ``500MB``, ``1.5 TB`` or ``20GiB`` means.

    Raises:
        UserError: it is none.
    """
    found = SIZE.fullmatch(text.strip())
    if found is None:
        raise UserError(Diagnostic(f"`{option} {text}` is no size", hint="write it like `500MB` or `1.5TB`"))
    return round(float(found[1]) * {**UNITS, **BINARY}[(found[2] or "").lower()])


def read_quota(layout: Layout) -> int | None:
    """The limit in bytes; None where there is none, or it is damaged."""
    try:
        return round(float(unguarded((layout.root / "quota.json").read_bytes())["bytes"]))
    except (FileNotFoundError, ValueError, KeyError, TypeError):
        return None


def write_quota(layout: Layout, limit: int | None) -> None:
    """Set the limit, or take it away."""
    path = layout.root / "quota.json"
    if limit is not None:
        write_atomic(path, json.dumps(guarded({"bytes": limit})).encode() + b"\n")
        return
    path.unlink(missing_ok=True)
    sync_folder(layout.root)


def check_quota(layout: Layout, expected: int) -> str | None:
    """Warning when what is expected to come will not fit.

    Args:
        layout: of the store.
        expected: bytes, as far as they can be told.

    Raises:
        UserError: the store is full already.
    """
    limit = read_quota(layout)
    if limit is None:
        return None
    used = disk_usage(layout)
    if used >= limit:
        message = f"the store `{layout.root}` is full: {size(used)} of {size(limit)}"
        raise UserError(Diagnostic(message, hint=_remedy(used + expected - limit)))
    if used + expected > limit:
        return (
            f"the store has {size(used)} of {size(limit)}, and about {size(expected)} will come: "
            f"{_remedy(used + expected - limit)}"
        )
    return None


def _remedy(excess: int) -> str:
    """The command that makes room, in whole megabytes."""
    return f"make room with `rlhfc gc --free {max(1, -(-excess // 10**6))}MB`, or set another `--quota`"
