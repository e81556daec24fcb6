"""A key document taken apart: one component for each thing that can differ by itself."""

from __future__ import annotations

from collections.abc import Collection, Iterator, Mapping, Sequence
from dataclasses import dataclass
from enum import StrEnum
from typing import Any

SENTINELS = frozenset({"<numeric>", "<runtime>", "<label>"})
Address = tuple["Group", str]


class Group(StrEnum):
    """What a component is, in the order in which people are told."""

    KIND = "kind"
    ABI = "abi"
    SETTING = "setting"
    ENGINE = "deepspeed"
    INPUT = "input"
    CODE = "code"
    LIBRARY = "library"
    COMMAND = "command"


@dataclass(frozen=True)
class Change:
    """A value that is not what it was.

    Attributes:
        path: dotted path in the key document's part; for settings as in its origins
            (``params.kl_coef``, ``settings.engines.actor.dtype``).
        before: None where there was none, as is ``after`` where there is none.
        place: where the value is written now, None for a default or what is no setting.
        place_before: where it was written then.
    """

    group: Group
    path: str
    before: Any
    after: Any
    place: str | None = None
    place_before: str | None = None


def components(document: Mapping[str, Any], inputs: Collection[str] = ()) -> dict[Address, Any]:
    """Every component with its value, in the order of the groups.

    Args:
        document: a key document, perhaps without its missing parts.
        inputs: addresses of the inputs; in ``params`` they only stand for themselves.
    """
    config = document["config"]
    inputs = {*inputs, *document["inputs"]}
    found: dict[Address, Any] = {(Group.KIND, ""): document["kind"], (Group.ABI, ""): document["abi"]}
    for path, value in flat(config["params"], "params"):
        if path.removeprefix("params.") not in inputs:
            found[Group.SETTING, path] = value
    found |= {(Group.SETTING, path): value for path, value in flat(config["settings"], "settings")}
    found |= {(Group.ENGINE, name): value for name, value in config["deepspeed"].items()}
    found |= {(Group.INPUT, name): value for name, value in document["inputs"].items()}
    found |= {(Group.CODE, name): value for name, value in sorted(document["code"].items())}
    found |= {(Group.LIBRARY, name): value for name, value in document["libraries"].items()}
    return found | {(Group.COMMAND, ""): document["argv"]}


def flat(value: Any, path: str = "") -> Iterator[tuple[str, Any]]:
    """Leaves of plain values with their dotted paths; an empty mapping has none.

    Those that a key masks are passed over.
    """
    if isinstance(value, list) and any(isinstance(item, Mapping) for item in value):
        value = {str(index): item for index, item in enumerate(value)}
    if isinstance(value, Mapping):
        for name, below in value.items():
            yield from flat(below, f"{path}.{name}" if path else str(name))
    elif not (isinstance(value, str) and value in SENTINELS):
        yield path, value


def changes(
    before: Mapping[Address, Any],
    after: Mapping[Address, Any],
    places: tuple[Mapping[str, str], Mapping[str, str]] = ({}, {}),
    pending: Collection[Address] = (),
) -> list[Change]:
    """Components that differ, with the places of both sides; what is pending is passed over."""
    then, now = places
    order = {group: rank for rank, group in enumerate(Group)}
    names = sorted(dict.fromkeys([*after, *before]), key=lambda address: order[address[0]])
    return [
        Change(
            group=address[0],
            path=address[1],
            before=before.get(address),
            after=after.get(address),
            place=origin(now, address),
            place_before=origin(then, address),
        )
        for address in names
        if address not in pending and not _same(before.get(address), after.get(address))
    ]


def told(found: Sequence[Change]) -> Iterator[Change]:
    """Changes as people are told of them: of a DeepSpeed config each value.

    It follows from settings: with one of these changed it is no news.
    """
    settings = any(change.group is Group.SETTING for change in found)
    for change in found:
        if change.group is not Group.ENGINE:
            yield change
        elif not settings:
            sides = (dict(flat(side, change.path)) if side else {} for side in (change.before, change.after))
            before, after = ({(Group.ENGINE, path): value for path, value in s.items()} for s in sides)
            yield from changes(before, after)


def origin(places: Mapping[str, str], address: Address) -> str | None:
    """Where a setting or input is written: its own place, or that of the nearest value around it."""
    group, path = address
    if group is Group.INPUT and f"params.{path}" in places:
        return places[f"params.{path}"]
    while group in (Group.SETTING, Group.INPUT) and path:
        if path in places:
            return places[path]
        path = path.rpartition(".")[0]
    return None


def _same(before: Any, after: Any) -> bool:
    """As keys see it: ``1`` is not ``1.0`` there."""
    return before == after and type(before) is type(after)
