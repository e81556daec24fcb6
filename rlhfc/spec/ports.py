"""References between stages: do they lead somewhere, to the right type, and never in a circle."""

from __future__ import annotations

from collections.abc import Iterator, Mapping

import networkx

from rlhfc.compile.action import VARIANT, stage_of
from rlhfc.errors import Diagnostic, did_you_mean, listing
from rlhfc.kind import InputModel, Kind
from rlhfc.spec.inputs import type_of_input
from rlhfc.spec.model import Draft


def connect(drafts: Mapping[str, Draft]) -> networkx.DiGraph[str]:
    """Graph of the references that lead to a stage; edges carry their input ``addresses``."""
    graph: networkx.DiGraph[str] = networkx.DiGraph()
    graph.add_nodes_from(drafts)
    for draft in drafts.values():
        for address, value in draft.inputs.items():
            upstream = _split(value)[0]
            if upstream not in drafts:
                continue
            if not graph.has_edge(upstream, draft.name):
                graph.add_edge(upstream, draft.name, addresses=[])
            graph.edges[upstream, draft.name]["addresses"].append(address)
    return graph


def in_order(graph: networkx.DiGraph[str]) -> list[str]:
    """Stage names in topological order, ties in the order of the spec."""
    position = {name: index for index, name in enumerate(graph)}
    return list(networkx.lexicographical_topological_sort(graph, key=position.__getitem__))


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


def cycle_faults(drafts: Mapping[str, Draft], graph: networkx.DiGraph[str]) -> Iterator[Diagnostic]:
    """One diagnostic for each knot of stages that feed each other."""
    for circle in circles(graph):
        address = graph.edges[circle[-2], circle[0]]["addresses"][0]
        mark = drafts[circle[0]].locate(tuple(address.split(".")))
        message = f"stages wait for each other: {' → '.join(map(stage_of, circle))}"
        yield Diagnostic(message, mark, "remove one of the references")


def circles(graph: networkx.DiGraph[str]) -> Iterator[list[str]]:
    """The shortest way round each knot, from its first node back to it."""
    position = {name: index for index, name in enumerate(graph)}
    for knot in networkx.strongly_connected_components(graph):
        first = min(knot, key=position.__getitem__)
        within = graph.subgraph(knot)
        ways = [networkx.shortest_path(within, after, first) for after in within.successors(first)]
        if ways:
            yield [first, *min(ways, key=len)]


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
