"""JSON objects that say of themselves whether they are whole: one flipped bit makes another number."""

from __future__ import annotations

import json
import zlib
from collections.abc import Mapping
from typing import Any

from rlhfc.store.digest import canonical_json

CHECK = "crc"


def guarded(value: Mapping[str, Any]) -> dict[str, Any]:
    """The object with a checksum of all else in it."""
    return {**value, CHECK: _checksum(value)}


def unguarded(data: bytes) -> dict[str, Any]:
    """The object that a file holds, without its checksum; earlier versions wrote none.

    Raises:
        ValueError: it is damaged.
    """
    value = json.loads(data)
    if not isinstance(value, dict):
        raise ValueError("it is no JSON object")
    check = value.pop(CHECK, None)
    if check is not None and check != _checksum(value):
        raise ValueError("its checksum is that of another")
    return value


def _checksum(value: Mapping[str, Any]) -> str:
    return f"{zlib.crc32(canonical_json(value)):08x}"
