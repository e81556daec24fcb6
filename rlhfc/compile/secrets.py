"""``${env:NAME}`` in the settings of a stage: where it may stand, and what a launch puts in its place."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

from pydantic import BaseModel

from rlhfc.compile.impacts import leaves
from rlhfc.kind import SECRET, Impact, StageParams

HARMLESS: tuple[Impact, ...] = ("runtime", "label")
"""Impacts of settings that reach neither a key nor what is recorded of a result."""

Place = tuple[str | int, ...]


def secrets_in(params: StageParams) -> Iterator[tuple[Place, str]]:
    """Place and name of each environment variable that is referred to."""
    for leaf in leaves(params):
        for place, text in _texts(leaf.value, leaf.path) if leaf.impact in HARMLESS else ():
            yield from ((place, found[1]) for found in SECRET.finditer(text))


def revealed(texts: Mapping[str, str], values: Mapping[str, str]) -> dict[str, str]:
    """Texts with their references replaced; every name must have a value."""
    return {name: SECRET.sub(lambda found: values[found[1]], text) for name, text in texts.items()}


def _texts(value: Any, path: Place) -> Iterator[tuple[Place, str]]:
    if isinstance(value, str):
        yield path, value
    elif isinstance(value, BaseModel):
        for name in type(value).model_fields:
            yield from _texts(getattr(value, name), (*path, name))
    elif isinstance(value, dict):
        for name, below in value.items():
            yield from _texts(below, (*path, name))
    elif isinstance(value, list | tuple):
        for index, below in enumerate(value):
            yield from _texts(below, (*path, index))
