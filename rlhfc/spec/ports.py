"""References between stages: do they lead somewhere, to the right type, and in which order do they come."""

from __future__ import annotations

import heapq
from collections.abc import Iterator, Mapping

from rlhfc.compile.action import VARIANT, stage_of
from rlhfc.errors import Diagnostic, did_you_mean, listing
from rlhfc.kind import InputModel, Kind
from rlhfc.spec.inputs import type_of_input
from rlhfc.spec.model import Draft, References


def connect(drafts: Mapping[str, Draft]) -> References:
    """The references that lead to a stage; those that lead nowhere are :func:`port_faults`."""
    found: dict[str, dict[str, list[str]]] = {name: {} for name in drafts}
    for draft in drafts.values():
        for address, value in draft.inputs.items():
            upstream = _split(value)[0]
            if upstream in drafts:
                found[draft.name].setdefault(upstream, []).append(address)
    return found


def in_order(references: References) -> list[str]:
    """Stage names in topological order, ties in the order of the spec; stages behind a circle are missing."""
    position = {name: place for place, name in enumerate(references)}
    open_inputs = {name: len(upstream) for name, upstream in references.items()}
    readers: dict[str, list[str]] = {name: [] for name in references}
    for name, upstream in references.items():
        for above in upstream:
            readers[above].append(name)
    ready = [place for name, place in position.items() if not open_inputs[name]]
    names, ordered = list(references), list[str]()
    while ready:  # a heap: it began sorted
        name = names[heapq.heappop(ready)]
        ordered.append(name)
        for reader in readers[name]:
            open_inputs[reader] -= 1
            if not open_inputs[reader]:
                heapq.heappush(ready, position[reader])
    return ordered


def port_faults(drafts: Mapping[str, Draft]) -> Iterator[Diagnostic]:
    """What is wrong with each reference by itself."""
    for draft in drafts.values():
        for address, value in draft.inputs.items():
            if draft.loaded is None:
                continue
            fault = _fault(drafts, draft.loaded.kind, address, value)
            if fault is not None:
                path = tuple(address.split("."))
                message, hint = fault
                yield Diagnostic(f"{draft.address(path)}: {message}", draft.locate(path), hint)


def _split(value: InputModel) -> tuple[str, str]:
    stage, _, port = (value.ref or "").rpartition(".")
    return stage, port


def _fault(
    drafts: Mapping[str, Draft], kind: Kind, address: str, value: InputModel
) -> tuple[str, str | None] | None:
    """Message and hint for one input, or None when it is right."""
    wanted = type_of_input(address, kind.inputs)
    if wanted is None:
        return f"kind `{kind.name}` declares no type for this input", "add it to `inputs` in its `kind.py`"
    if value.ref is None:
        if address in {path.partition(".")[0] for path in kind.engines.values()}:
            return "engines come from a stage, not from a source", _suppliers(drafts, wanted)
        return None
    stage, port = _split(value)
    if stage not in drafts:
        known = drafts if VARIANT in stage else dict.fromkeys(map(stage_of, drafts))
        return f"there is no stage `{stage}`", did_you_mean(stage, known, "stages")
    upstream = drafts[stage].loaded
    if upstream is None:
        return None
    outputs, stage = upstream.kind.outputs, stage_of(stage)
    if port not in outputs:
        return f"stage `{stage}` has no output `{port}`", did_you_mean(port, outputs, f"outputs of `{stage}`")
    if outputs[port] != wanted:
        message = f"expected type `{wanted}`, but `{stage}.{port}` is of type `{outputs[port]}`"
        return message, _suppliers(drafts, wanted)
    return None


def _suppliers(drafts: Mapping[str, Draft], wanted: str) -> str:
    """A hint that lists the outputs of the right type."""
    fitting = dict.fromkeys(
        f"{stage_of(name)}.{port}"
        for name, draft in drafts.items()
        if draft.loaded is not None
        for port, held in draft.loaded.kind.outputs.items()
        if held == wanted
    )
    if not fitting:
        return f"no output of this pipeline is of type `{wanted}`"
    return f"outputs of type `{wanted}`: {listing(list(fitting))}"
