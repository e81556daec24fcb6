"""The drawing of a pipeline: stages in columns, each right of all it reads from."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Literal

import networkx

BOX_WIDTH, BOX_HEIGHT = 132, 46
GAP_X, GAP_Y, MARGIN = 46, 18, 4
Tone = Literal["good", "bad", "wait", "new", "plain"]
# The colour of a state; its word stands in the box as well.
TONES: Mapping[str, Tone] = {
    "done": "good",
    "cached": "good",
    "failed": "bad",
    "interrupted": "wait",
    "can resume": "wait",
    "resume": "wait",
    "run": "new",
}


@dataclass(frozen=True)
class Box:
    """One stage: its upper left corner and what stands in it."""

    stage: str
    kind: str
    state: str
    x: float
    y: float

    @property
    def words(self) -> str:
        """What stands below its name."""
        return f"{self.kind} · {self.state}" if self.state else self.kind

    @property
    def tone(self) -> Tone:
        """Colour of its state."""
        return TONES.get(self.state, "plain")


@dataclass(frozen=True)
class Graph:
    """Boxes, and the paths of the arrows between them."""

    boxes: tuple[Box, ...]
    arrows: tuple[str, ...]
    width: float
    height: float


def draw(upstream: Mapping[str, Sequence[str]], kinds: Mapping[str, str], states: Mapping[str, str]) -> Graph:
    """Lay out a pipeline.

    Args:
        upstream: stage to the stages that it reads from, in topological order.
        kinds: stage to its kind.
        states: stage to its state; empty for none.
    """
    graph = graph_of(upstream)
    order = {stage: place for place, stage in enumerate(upstream)}
    columns = [sorted(column, key=order.__getitem__) for column in networkx.topological_generations(graph)]
    height = MARGIN * 2 + max(map(len, columns)) * (BOX_HEIGHT + GAP_Y) - GAP_Y
    boxes: dict[str, Box] = {}
    column_of: dict[str, int] = {}
    for column, stages in enumerate(columns):
        top = (height - len(stages) * (BOX_HEIGHT + GAP_Y) + GAP_Y) / 2
        for row, stage in enumerate(stages):
            x, y = MARGIN + column * (BOX_WIDTH + GAP_X), top + row * (BOX_HEIGHT + GAP_Y)
            boxes[stage] = Box(stage, kinds[stage], states[stage], x, y)
            column_of[stage] = column
    arrows = [
        _arrow(boxes[start], boxes[end], nearest=column_of[end] - column_of[start] == 1)
        for start, end in telling_arrows(upstream)
    ]
    width = MARGIN * 2 + len(columns) * (BOX_WIDTH + GAP_X) - GAP_X
    return Graph(tuple(boxes.values()), tuple(arrows), width, height)


def telling_arrows(upstream: Mapping[str, Sequence[str]]) -> list[tuple[str, str]]:
    """Arrows from stages to those that read them, without what a longer way implies already."""
    reduced = networkx.transitive_reduction(graph_of(upstream))
    arrows = ((name, stage) for stage, above in upstream.items() for name in above)
    return [arrow for arrow in arrows if reduced.has_edge(*arrow)]


def graph_of(upstream: Mapping[str, Sequence[str]]) -> networkx.DiGraph[str]:
    """Stages with an edge to each stage that reads them."""
    graph: networkx.DiGraph[str] = networkx.DiGraph()
    graph.add_nodes_from(upstream)
    graph.add_edges_from((name, stage) for stage, above in upstream.items() for name in above)
    return graph


def _arrow(start: Box, end: Box, *, nearest: bool) -> str:
    x1, y1 = start.x + BOX_WIDTH, start.y + BOX_HEIGHT / 2
    x2, y2 = end.x - 5, end.y + BOX_HEIGHT / 2
    bend = GAP_X / 2 if nearest else GAP_X
    return f"M{x1:.0f},{y1:.0f} C{x1 + bend:.0f},{y1:.0f} {x2 - bend:.0f},{y2:.0f} {x2:.0f},{y2:.0f}"
