"""An action as it was, in the parts of which a change is to be ignored."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from dataclasses import replace
from functools import reduce
from typing import Any

from pydantic import ValidationError

from rlhfc.compile.action import Action, ResolvedSource, UpstreamOutput
from rlhfc.compile.batch import BatchError, batch_of
from rlhfc.compile.impacts import full, leaves
from rlhfc.spec.inputs import fits_pattern
from rlhfc.store.digest import canonical_json

_ABSENT = object()


def as_before(action: Action, before: Mapping[str, Any]) -> Action | None:
    """The action with what is ignored put back to what it was in an earlier key document.

    Ignored are the leaves that ``ignore_changes`` names, an input with what it held, and versions of
    libraries that no longer enter the key, so that taking one out of the keys reruns nothing.

    Args:
        action: the stage now.
        before: the key document of an earlier result.

    Returns:
        None where nothing that is ignored differs, or the old values fit the new ones no more.
    """
    held, keyed = before.get("inputs", {}), action.libraries.keyed(action.kind.libraries)
    values = dict(_values_before(action, before.get("config", {}).get("params", {})))
    inputs = {
        address: ResolvedSource(f"as before: {address}", held[address])
        for address, binding in action.inputs.items()
        if _ignored(action, address) and _moved(binding, held.get(address))
    }
    versions = {
        name: version
        for name, version in before.get("libraries", {}).items()
        if name in action.kind.libraries and name not in keyed
    }
    if not values and not inputs and not versions:
        return None
    device = values.get(("device",), action.device)
    try:
        params = _with_values(action.params, values)
        batch = batch_of(params)
    except (ValidationError, BatchError):
        return None
    return replace(
        action,
        params=params,
        batch=batch,
        device=device,
        inputs={**action.inputs, **inputs},
        libraries=replace(action.libraries, put_back=versions),
    )


def _ignored(action: Action, address: str) -> bool:
    return any(fits_pattern(address, pattern) for pattern in action.params.ignore_changes)


def _moved(binding: UpstreamOutput | ResolvedSource, before: str | None) -> bool:
    """Whether an input that was there may hold something else now."""
    return before is not None and (isinstance(binding, UpstreamOutput) or binding.digest != before)


def _values_before(action: Action, before: Mapping[str, Any]) -> Iterator[tuple[tuple[str | int, ...], Any]]:
    """Path and earlier value of each ignored leaf that was in the key and was not what it is."""
    for leaf in leaves(action.params):
        if leaf.impact in action.keyed_impacts and _ignored(action, leaf.address):
            value = reduce(_below, leaf.path, before)
            if value is not _ABSENT and canonical_json(value) != canonical_json(full(leaf)):
                yield leaf.path, value


def _below(value: Any, step: str | int) -> Any:
    if isinstance(value, Mapping):
        return value.get(step, _ABSENT)
    if isinstance(value, list) and isinstance(step, int) and step < len(value):
        return value[step]
    return _ABSENT


def _with_values(params: Any, values: Mapping[tuple[str | int, ...], Any]) -> Any:
    """The parameters with other values at some leaves, checked like those of a spec.

    Raises:
        ValidationError: they do not go together.
    """
    plain = params.model_dump(mode="json")
    for (*parents, last), value in values.items():
        reduce(lambda found, step: found[step], parents, plain)[last] = value
    return type(params).model_validate_json(json.dumps(plain))
