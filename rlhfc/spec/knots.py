"""References in a circle, and the references as a graph: what networkx is for.

Only what needs it imports this module: networkx takes longer to import than a plan to make.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping

import networkx

from rlhfc.compile.action import stage_of
from rlhfc.errors import Diagnostic
from rlhfc.spec.model import Draft, References


def graph_of(references: References) -> networkx.DiGraph[str]:
    """Stage names; an edge leads from a stage to one that reads it, its ``addresses`` are the inputs."""
    graph: networkx.DiGraph[str] = networkx.DiGraph()
    graph.add_nodes_from(references)
    for name, upstream in references.items():
        for above, addresses in upstream.items():
            graph.add_edge(above, name, addresses=addresses)
    return graph


def cycle_faults(drafts: Mapping[str, Draft], references: References) -> Iterator[Diagnostic]:
    """One diagnostic for each knot of stages that feed each other."""
    graph = graph_of(references)
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


def knotted(graph: networkx.DiGraph[str]) -> set[str]:
    """Every node that is on the way round some knot."""
    knots = networkx.strongly_connected_components(graph)
    return {name for knot in knots for name in knot if len(knot) > 1 or graph.has_edge(name, name)}
