"""Walks the parameters of a stage leaf by leaf, each with its impact."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Set
from dataclasses import dataclass
from typing import Annotated, Any, get_args, get_origin

from pydantic import BaseModel
from pydantic.fields import FieldInfo

from rlhfc.kind import Impact, InputModel

IMPACTS: tuple[Impact, ...] = ("semantic", "numeric", "runtime", "label")
LEFT_OUT = object()
"""What a leaf is shown as that shall not be there at all."""


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
        shown: what stands at a leaf; :func:`full`, or what :func:`masked` or :func:`keyed` makes.
    """
    return _render_fields(model, (), shown)


def _render_fields(
    model: BaseModel, path: tuple[str | int, ...], shown: Callable[[Leaf], Any]
) -> dict[str, Any]:
    rendered = {
        name: _render(getattr(model, name), (*path, name), impact_of(info), shown)
        for name, info in type(model).model_fields.items()
    }
    return {name: value for name, value in rendered.items() if value is not LEFT_OUT}


def _render(value: Any, path: tuple[str | int, ...], impact: Impact, shown: Callable[[Leaf], Any]) -> Any:
    """A nested model's own impacts hold, unless the field around it is not semantic."""
    if impact == "semantic":
        if isinstance(value, BaseModel) and not isinstance(value, InputModel):
            return _render_fields(value, path, shown)
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


def masked(impacts: Set[Impact]) -> Callable[[Leaf], Any]:
    """As :func:`full`, and a leaf of another impact becomes a sentinel such as ``<numeric>``."""
    return lambda leaf: full(leaf) if leaf.impact in impacts else f"<{leaf.impact}>"


def keyed(impacts: Set[Impact]) -> Callable[[Leaf], Any]:
    """As :func:`full`, and a leaf of another impact is left out, so that a new one moves no key."""
    return lambda leaf: full(leaf) if leaf.impact in impacts else LEFT_OUT


def declared_leaves(model: type[BaseModel], prefix: str = "") -> Iterator[tuple[str, Impact]]:
    """Address and impact of everything that can be a leaf of a model; ``*`` stands for any position.

    A field that may be a model or nothing (``lora``) is given itself as well as what is below it.
    """
    for name, info in model.model_fields.items():
        impact, path = impact_of(info), f"{prefix}{name}"
        below = list(_models_in(info.annotation)) if impact == "semantic" else []
        if not any(found is info.annotation for found, _ in below):
            yield path, impact
        for found, step in below:
            yield from declared_leaves(found, f"{path}{step}.")


def _models_in(annotation: Any, step: str = "") -> Iterator[tuple[type[BaseModel], str]]:
    """Models that a field may hold, and the steps from the field to them."""
    origin = get_origin(annotation)
    if isinstance(annotation, type) and issubclass(annotation, BaseModel):
        if not issubclass(annotation, InputModel):
            yield annotation, step
    elif origin is Annotated:
        yield from _models_in(get_args(annotation)[0], step)
    else:
        inside = f"{step}.*" if origin in (list, tuple) else step
        for each in get_args(annotation):
            yield from _models_in(each, inside)


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
