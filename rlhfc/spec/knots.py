"""References in a circle, and the references as a graph: what networkx is for.

Only what needs it imports this module: networkx takes longer to import than a plan to make.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping

import networkx

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
    for knot in networkx.strongly_connected_components(graph):
        first = next(name for name in drafts if name in knot)
        within = graph.subgraph(knot)
        ways = [networkx.shortest_path(within, after, first) for after in within.successors(first)]
        if not ways:
            continue
        circle = [first, *min(ways, key=len)]
        address = graph.edges[circle[-2], first]["addresses"][0]
        mark = drafts[first].locate(tuple(address.split(".")))
        yield Diagnostic(
            f"stages wait for each other: {' → '.join(circle)}", mark, "remove one of the references"
        )
