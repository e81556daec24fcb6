"""Walks the parameters of a stage leaf by leaf, each with its impact."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from pydantic import BaseModel
from pydantic.fields import FieldInfo

from rlhfc.kind import Impact, InputModel

IMPACTS: tuple[Impact, ...] = ("semantic", "numeric", "runtime", "label")


@dataclass(frozen=True)
class Leaf:
    """One value of a stage's parameters. ``path`` holds field names and list positions."""

    path: tuple[str | int, ...]
    value: Any
    impact: Impact

    @property
    def address(self) -> str:
        """The path, dotted."""
        return dotted(self.path)


def dotted(path: tuple[str | int, ...]) -> str:
    """A path as it is shown and stored: ``sources.0.max_rows``."""
    return ".".join(map(str, path))


def impact_of(info: FieldInfo) -> Impact:
    """Impact that a field was declared with; semantic when nothing was said."""
    extra = info.json_schema_extra
    declared = extra.get("impact", "semantic") if isinstance(extra, dict) else "semantic"
    for impact in IMPACTS:
        if declared == impact:
            return impact
    raise ValueError(f"unknown impact {declared!r}: one of {', '.join(IMPACTS)}")


def render_params(model: BaseModel, shown: Callable[[Leaf], Any]) -> dict[str, Any]:
    """The parameters as plain values, in the shape that they have in the spec.

    Args:
        model: parameters of a stage.
        shown: what stands at a leaf; :func:`full` or :func:`masked`.
    """
    return {
        name: _render(getattr(model, name), (name,), impact_of(info), shown)
        for name, info in type(model).model_fields.items()
    }


def _render(value: Any, path: tuple[str | int, ...], impact: Impact, shown: Callable[[Leaf], Any]) -> Any:
    """A nested model's own impacts hold, unless the field around it is not semantic."""
    if impact == "semantic":
        if isinstance(value, BaseModel) and not isinstance(value, InputModel):
            return {
                name: _render(getattr(value, name), (*path, name), impact_of(info), shown)
                for name, info in type(value).model_fields.items()
            }
        if isinstance(value, list | tuple) and any(isinstance(item, BaseModel) for item in value):
            return [_render(item, (*path, index), impact, shown) for index, item in enumerate(value)]
    return shown(Leaf(path, value, impact))


def leaves(model: BaseModel) -> list[Leaf]:
    """Every leaf in the order of the fields; an input is one leaf with its :class:`InputModel`."""
    found: list[Leaf] = []
    render_params(model, found.append)
    return found


def full(leaf: Leaf) -> Any:
    """A leaf's plain value; an input is replaced by its address."""
    return _plain(leaf.value, leaf.path)


def masked(leaf: Leaf) -> Any:
    """As :func:`full`, and a leaf that is not semantic becomes a sentinel such as ``<numeric>``."""
    return full(leaf) if leaf.impact == "semantic" else f"<{leaf.impact}>"


def _plain(value: Any, path: tuple[str | int, ...]) -> Any:
    if isinstance(value, InputModel):
        return dotted(path)
    if isinstance(value, BaseModel):
        return {name: _plain(getattr(value, name), (*path, name)) for name in type(value).model_fields}
    if isinstance(value, list | tuple):
        return [_plain(item, (*path, index)) for index, item in enumerate(value)]
    if isinstance(value, dict):
        return {key: _plain(item, (*path, key)) for key, item in value.items()}
    return value
