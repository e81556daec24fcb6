"""An explanation as lines for people."""

from __future__ import annotations

import json
from collections.abc import Iterable, Iterator, Mapping, Sequence
from datetime import datetime
from typing import Any

from rlhfc.explain.components import Address, Change, Group, flat, origin, told
from rlhfc.explain.explanation import Earlier, Explanation, Recorded
from rlhfc.explain.from_ledger import Made
from rlhfc.plan import quantities
from rlhfc.plan.planner import Verdict

LONGEST = 60
Row = tuple[str, ...]
STRIPPED = ("params.", "settings.", "libraries.")


def explanation_lines(found: Explanation, now: datetime) -> list[str]:
    """Verdict, what differs, what waits, what is as it was, and what would be cached."""
    rows = [_change_row(change, found.sources) for change in told(found.changes)]
    rows += [
        (name(item.group, item.path), _waits(item.group, item.what), _place(found, item.group, item.path))
        for item in found.waiting
    ]
    lines = [_verdict(found), *indented(rows)]
    lines += [f"  = {text}" for text in _identical(found)] if found.last else []
    if found.recorded:
        lines += ["", "differs, and reruns nothing:"]
        lines += indented(_recorded_row(item) for item in found.recorded)
    ends = [*_last_line(found, now), *(_earlier_line(item, found, now) for item in found.earlier)]
    return [*lines, "", *ends] if ends else lines


def key_lines(found: Explanation) -> list[str]:
    """The key document, one component a line: impact, name, value, place; then what is recorded beside it."""
    rows: list[Row] = [
        (found.impact((group, path)), _key_name(group, path), full(value), _place(found, group, path))
        for (group, path), value in _one_by_one(found.now)
    ]
    rows += [
        ("semantic", name(item.group, item.path), f"waits: {item.what}", _place(found, item.group, item.path))
        for item in found.waiting
    ]
    beside = [
        (found.impacts.get(path, "library"), bare(path), full(value), found.places.get(path) or "")
        for path, value in found.values.items()
    ]
    key = found.planned.key or "undecided"
    return [f"key {key}", *indented(rows), "", "recorded beside the key:", *indented(beside)]


def _key_name(group: Group, path: str) -> str:
    return f"{group} {path}" if group is Group.LIBRARY else name(group, path)


def _one_by_one(now: Mapping[Address, Any]) -> Iterator[tuple[Address, Any]]:
    """Components, and of a DeepSpeed config each value."""
    for (group, path), value in now.items():
        if group is Group.ENGINE:
            yield from (((group, below), leaf) for below, leaf in flat(value, path))
        else:
            yield (group, path), value


def name(group: Group, path: str) -> str:
    """How a component is called."""
    if group is Group.SETTING:
        return bare(path)
    if group is Group.LIBRARY:
        return path
    return f"{group} {path}".strip()


def bare(path: str) -> str:
    """A path without the part of the document that it is in."""
    prefix = next((prefix for prefix in STRIPPED if path.startswith(prefix)), "")
    return path.removeprefix(prefix)


def full(value: Any) -> str:
    """A value as it is, in one line: text bare, the rest as JSON."""
    if value is None:
        return "none"
    text = value if isinstance(value, str) else json.dumps(value, ensure_ascii=False)
    return " ".join(text.split()) or '""'


def shown(value: Any) -> str:
    """As :func:`full`, with digests cut short."""
    is_digest = isinstance(value, str) and value.startswith(("b3:", "hub:"))
    return quantities.value(value) if is_digest else full(value)


def change_words(change: Change) -> str:
    """Old and new: ``0.1 → 0.05``; of code and command only that they are others."""
    if change.group in (Group.CODE, Group.COMMAND):
        if change.before is None or change.after is None:
            return "new" if change.before is None else "gone"
        return "changed"
    return f"{shown(change.before)} → {shown(change.after)}"


def place_words(now: str | None, then: str | None) -> str:
    """Where a value is written and, where that is elsewhere, where it was: ``a.yaml:4 (was b.yaml:2)``."""
    if now == then or then is None:
        return now or ""
    return f"{now or 'default'} (was {then})"


def indented(rows: Iterable[Row]) -> list[str]:
    """Rows as columns, indented; a cell that is very long does not widen its column."""
    listed = list(rows)
    if not listed:
        return []
    widths = [
        max((len(row[column]) for row in listed if len(row[column]) <= LONGEST), default=0)
        for column in range(len(listed[0]))
    ]
    padded = ("  ".join(cell.ljust(width) for cell, width in zip(row, widths, strict=True)) for row in listed)
    return [f"  {line}".rstrip() for line in padded]


def _verdict(found: Explanation) -> str:
    planned = found.planned
    stage, count = planned.stage, f"{found.total} key components"
    if planned.verdict is Verdict.CACHED and not (found.changes or found.waiting):
        accepted = " that was accepted" if planned.accepted is not None else ""
        return f"{stage} is cached: its {count} are those of a result{accepted}"
    if planned.checkpoint is not None:
        head = f"{stage} resumes at step {planned.checkpoint[0]} of {planned.checkpoint[1]}"
    else:
        head = f"{stage} is {planned.verdict}" if planned.verdict is not Verdict.RUN else f"{stage} runs"
    if found.last is None or not (found.changes or found.waiting):
        return f"{head}: {'; '.join(found.causes)}" if found.causes else head
    differ = len(found.changes)
    parts = [f"{differ or 'none'} of {count} {'differs' if differ < 2 else 'differ'}"]
    if found.waiting:
        parts.append(f"{len(found.waiting)} {'is' if len(found.waiting) == 1 else 'are'} pending")
    if planned.verdict is Verdict.CACHED:
        parts.append("which is ignored")
    return f"{head}: {', '.join(parts)}"


def _place(found: Explanation, group: Group, path: str) -> str:
    return origin(found.places, (group, path)) or ""


def _change_row(change: Change, sources: Mapping[str, str]) -> Row:
    words = change_words(change)
    if change.group is Group.INPUT and change.path in sources:
        words += f" ({sources[change.path]})"
    return name(change.group, change.path), words, place_words(change.place, change.place_before)


def _waits(group: Group, what: str) -> str:
    return f"waits for {what}" if group is Group.INPUT and " " not in what else what


def _recorded_row(item: Recorded) -> Row:
    words = f"{shown(item.before)} → {shown(item.after)}"
    return bare(item.path), words, item.impact, item.place or ""


def _identical(found: Explanation) -> Iterator[str]:
    """One line for each group that has something that is as it was."""
    settings = found.identical(Group.SETTING)
    if settings:
        yield _count(settings, "setting")
    inputs = found.identical(Group.INPUT)
    if inputs:
        listed = (
            f"{found.sources.get(path, path)} {shown(found.now[group, path])}" for group, path in inputs
        )
        yield f"{_count(inputs, 'input')}: {', '.join(listed)}"
    code = found.identical(Group.CODE)
    if code:
        files = "1 file" if len(code) == 1 else f"{len(code)} files"
        yield f"{files} of code, comments and docstrings aside"
    libraries = found.identical(Group.LIBRARY)
    if libraries:
        listed = (f"{path} {found.now[group, path]}" for group, path in libraries)
        yield f"{_count(libraries, 'library')}: {', '.join(listed)}"
    rest = [group for group in (Group.KIND, Group.ABI, Group.ENGINE, Group.COMMAND) if found.identical(group)]
    words = {Group.KIND: "kind", Group.ABI: "its version", Group.ENGINE: "DeepSpeed config"}
    if rest:
        yield ", ".join(words.get(group, "launch command") for group in rest)


def _count(listed: Sequence[Address], what: str) -> str:
    plural = f"{what[:-1]}ies" if what.endswith("y") else f"{what}s"
    return f"{len(listed)} {what if len(listed) == 1 else plural}"


def _last_line(found: Explanation, now: datetime) -> Iterator[str]:
    if found.last is None:
        return
    made, result = found.last
    parts = _when(made, now)
    if result is None:
        parts.append("no longer whole in the store")
    else:
        parts += [f"took {quantities.duration(result.seconds)}", quantities.size(result.size)]
    what = "result" if found.planned.result is not None else "last result"
    yield f"{what}: {', '.join([*parts, f'key {shown(made.key)}'])}"
    if (accepted := found.planned.accepted) is not None:
        ago = quantities.ago(accepted.time, now)
        yield f"accepted by {accepted.who} {ago}: {accepted.why}; it stood under {shown(accepted.before)}"


def _earlier_line(item: Earlier, found: Explanation, now: datetime) -> str:
    needs = ", ".join(_need(change, found.sources) for change in told(item.needs))
    return f"would be cached with: {needs} ({', '.join(_when(item.made, now))})"


def _when(made: Made, now: datetime) -> list[str]:
    """The run, where there was one, and how long ago."""
    run = [f"run {made.run}"] if made.run else []
    return [*run, quantities.ago(made.time, now)] if made.time else run


def _need(change: Change, sources: Mapping[str, str]) -> str:
    """What a component would have to be."""
    if change.group is Group.INPUT:
        return f"{sources.get(change.path, change.path)} = {shown(change.before)}"
    what = name(change.group, change.path)
    if change.group in (Group.CODE, Group.COMMAND):
        return f"{what} as it was" if change.before is not None else f"no {what}"
    return f"{what} = {shown(change.before)}" if change.before is not None else f"no {what}"
