"""Inputs of a stage, found by walking its parameters."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

from pydantic import BaseModel

from rlhfc.kind import InputModel, StageParams


def inputs_of(params: StageParams) -> dict[str, InputModel]:
    """Address (``model``, ``sources.0.data``) to input, at any depth, in the order of the fields."""
    return dict(walk_inputs(params))


def walk_inputs(value: Any, path: tuple[str, ...] = ()) -> Iterator[tuple[str, InputModel]]:
    """Address and input of everything below ``value``: a model, a list, a mapping or a leaf.

    Fields that an incomplete model lacks are passed over.
    """
    if isinstance(value, InputModel):
        yield ".".join(path), value
    elif isinstance(value, BaseModel):
        for name in type(value).model_fields:
            yield from walk_inputs(getattr(value, name, None), (*path, name))
    elif isinstance(value, dict):
        for name, item in value.items():
            yield from walk_inputs(item, (*path, str(name)))
    elif isinstance(value, list | tuple):
        for index, item in enumerate(value):
            yield from walk_inputs(item, (*path, str(index)))


def type_of_input(address: str, declared: dict[str, str]) -> str | None:
    """The type that a kind declares for an address; ``*`` in a pattern stands for one step."""
    found = (accepted for pattern, accepted in declared.items() if fits_pattern(address, pattern))
    return next(found, None)


def fits_pattern(address: str, pattern: str) -> bool:
    """Whether an address is one of a pattern, in which ``*`` stands for one step."""
    steps, wanted = address.split("."), pattern.split(".")
    return len(wanted) == len(steps) and all(w in ("*", s) for w, s in zip(wanted, steps, strict=True))
