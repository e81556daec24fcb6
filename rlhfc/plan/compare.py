"""What differs between two key documents, as reasons."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any

from rlhfc.compile.reasons import Reason, ReasonCode
from rlhfc.store.digest import canonical_json

Change = tuple[str, Any, Any]
"""Dotted path, value before, value after; None where there is none."""


@dataclass(frozen=True)
class Difference:
    """A numeric or runtime value that is not what the result was made with; it reruns nothing."""

    path: str
    before: Any
    after: Any


def changes_between(
    before: Mapping[str, Any], after: Mapping[str, Any], pending: frozenset[str]
) -> list[Reason]:
    """Reasons for which the action ``after`` is not the action ``before``.

    Args:
        before: key document of the last result.
        after: key document now, perhaps without the parts that are pending.
        pending: input addresses and distributions that ``after`` lacks for the time being.
    """
    old, new = before.get("config", {}), after["config"]
    reasons = [
        *_scalar(ReasonCode.KIND_CHANGED, "kind", before, after),
        *_scalar(ReasonCode.ABI_CHANGED, "abi", before, after),
        *_each(ReasonCode.PARAMETER_CHANGED, old.get("params"), new["params"]),
        *_each(ReasonCode.SETTING_CHANGED, old.get("settings"), new["settings"]),
    ]
    if not reasons:
        # A DeepSpeed config follows from the leaves above; alone it says that rlhfc derives it anew.
        reasons += _each(ReasonCode.ENGINE_CHANGED, old.get("deepspeed"), new["deepspeed"])
    reasons += _flat(ReasonCode.INPUT_CHANGED, before.get("inputs", {}), after["inputs"], pending)
    reasons += _flat(ReasonCode.CODE_CHANGED, before.get("code", {}), after["code"], frozenset())
    reasons += _flat(ReasonCode.LIBRARY_CHANGED, before.get("libraries", {}), after["libraries"], pending)
    reasons += _scalar(ReasonCode.COMMAND_CHANGED, "argv", before, after)
    return reasons


def differences_between(before: Mapping[str, Any], after: Mapping[str, Any]) -> tuple[Difference, ...]:
    """Recorded values that both sides have and that are not the same."""
    return tuple(
        Difference(path, before[path], value)
        for path, value in after.items()
        if path in before and before[path] != value
    )


def in_config(document: Mapping[str, Any], path: str) -> bool:
    """Whether a recorded path (``params.ranks``) is also a part of a key document's config."""
    *parents, last = path.split(".")
    found: Any = document["config"]
    for step in parents:
        found = found.get(step, {}) if isinstance(found, Mapping) else {}
    return isinstance(found, Mapping) and last in found


def _scalar(code: ReasonCode, name: str, before: Mapping[str, Any], after: Mapping[str, Any]) -> list[Reason]:
    if _same(before.get(name), after[name]):
        return []
    return [Reason(code, "", before.get(name), after[name])]


def _each(code: ReasonCode, before: Any, after: Any) -> list[Reason]:
    return [Reason(code, *change) for change in _walk(before, after, "")]


def _flat(
    code: ReasonCode, before: Mapping[str, str], after: Mapping[str, str], pending: frozenset[str]
) -> list[Reason]:
    names = [name for name in dict.fromkeys([*after, *sorted(before)]) if name not in pending]
    return [
        Reason(code, name, before.get(name), after.get(name))
        for name in names
        if before.get(name) != after.get(name)
    ]


def _walk(before: Any, after: Any, path: str) -> Iterator[Change]:
    """Leaves that differ, in the order of ``after``; what a mapping or a list has too few is None."""
    if isinstance(before, Mapping) and isinstance(after, Mapping):
        for key in dict.fromkeys([*after, *sorted(before)]):
            yield from _walk(before.get(key), after.get(key), f"{path}.{key}" if path else str(key))
    elif isinstance(before, list) and isinstance(after, list) and len(before) == len(after):
        for index, (old, new) in enumerate(zip(before, after, strict=True)):
            yield from _walk(old, new, f"{path}.{index}")
    elif not _same(before, after):
        yield path, before, after


def _same(before: Any, after: Any) -> bool:
    """Whether a key takes two values for one: ``1`` is not ``1.0`` or ``true``, nor ``0.0`` ``-0.0``."""
    if isinstance(before, str | int | None):  # most leaves, and the encoding has nothing to add
        return type(before) is type(after) and bool(before == after)
    return canonical_json(before) == canonical_json(after)
