"""The drawing of a pipeline: stages in columns, each right of all it reads from."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Literal

import networkx

BOX_WIDTH, BOX_HEIGHT = 132, 46  # the least width
GAP_X, GAP_Y, MARGIN = 46, 18, 4
PADDING = 11  # between a box's side and its words
NAME_LIMIT, WORDS_LIMIT = 40, 48  # characters; what is longer is cut off
NAME_EM, WORDS_EM = 8.5, 5.7  # width of a character in a wide font
Tone = Literal["good", "bad", "wait", "new", "plain"]
# The colour of a state; its word stands in the box as well.
TONES: Mapping[str, Tone] = {
    "done": "good",
    "cached": "good",
    "frozen": "good",
    "failed": "bad",
    "interrupted": "wait",
    "can resume": "wait",
    "resume": "wait",
    "run": "new",
}


@dataclass(frozen=True)
class Box:
    """One stage: its upper left corner, its width and what stands in it."""

    stage: str
    kind: str
    state: str
    x: float
    y: float
    width: float

    @property
    def name(self) -> str:
        """Its name, as far as there is room."""
        return _cut(self.stage, NAME_LIMIT)

    @property
    def words(self) -> str:
        """What stands below its name."""
        return _words(self.kind, self.state)

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
    x: float = MARGIN
    for column, stages in enumerate(columns):
        top = (height - len(stages) * (BOX_HEIGHT + GAP_Y) + GAP_Y) / 2
        width = max(_room(stage, _words(kinds[stage], states[stage])) for stage in stages)
        for row, stage in enumerate(stages):
            y = top + row * (BOX_HEIGHT + GAP_Y)
            boxes[stage] = Box(stage, kinds[stage], states[stage], x, y, width)
            column_of[stage] = column
        x += width + GAP_X
    arrows = [
        _arrow(boxes[start], boxes[end], nearest=column_of[end] - column_of[start] == 1)
        for start, end in telling_arrows(upstream)
    ]
    return Graph(tuple(boxes.values()), tuple(arrows), x - GAP_X + MARGIN, height)


def _words(kind: str, state: str) -> str:
    return _cut(f"{kind} · {state}" if state else kind, WORDS_LIMIT)


def _cut(text: str, limit: int) -> str:
    return text if len(text) <= limit else f"{text[: limit - 1]}…"


def _room(stage: str, words: str) -> float:
    """Width of a box that a name and the words below it fit into."""
    needed = max(len(_cut(stage, NAME_LIMIT)) * NAME_EM, len(words) * WORDS_EM)
    return max(BOX_WIDTH, math.ceil(2 * PADDING + needed))


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
    x1, y1 = start.x + start.width, start.y + BOX_HEIGHT / 2
    x2, y2 = end.x - 5, end.y + BOX_HEIGHT / 2
    bend = GAP_X / 2 if nearest else GAP_X
    return f"M{x1:.0f},{y1:.0f} C{x1 + bend:.0f},{y1:.0f} {x2 - bend:.0f},{y2:.0f} {x2:.0f},{y2:.0f}"
