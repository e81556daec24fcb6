"""The drawing of a pipeline: stages in columns, each right of all it reads from."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

BOX_WIDTH, BOX_HEIGHT = 132, 46
GAP_X, GAP_Y, MARGIN = 46, 18, 4


@dataclass(frozen=True)
class Box:
    """One stage: its upper left corner and what stands in it."""

    stage: str
    kind: str
    state: str
    x: float
    y: float


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
        states: stage to its state.
    """
    depth: dict[str, int] = {}
    columns: dict[int, list[str]] = {}
    for stage, above in upstream.items():
        depth[stage] = max((depth[name] + 1 for name in above), default=0)
        columns.setdefault(depth[stage], []).append(stage)
    tallest = max(len(column) for column in columns.values())
    height = MARGIN * 2 + tallest * (BOX_HEIGHT + GAP_Y) - GAP_Y
    boxes = {}
    for column, stages in columns.items():
        top = (height - len(stages) * (BOX_HEIGHT + GAP_Y) + GAP_Y) / 2
        for row, stage in enumerate(stages):
            x, y = MARGIN + column * (BOX_WIDTH + GAP_X), top + row * (BOX_HEIGHT + GAP_Y)
            boxes[stage] = Box(stage, kinds[stage], states[stage], x, y)
    arrows = [
        _arrow(boxes[name], boxes[stage], nearest=depth[stage] - depth[name] == 1)
        for stage, above in upstream.items()
        for name in _direct(stage, above, upstream)
    ]
    width = MARGIN * 2 + len(columns) * (BOX_WIDTH + GAP_X) - GAP_X
    return Graph(tuple(boxes.values()), tuple(arrows), width, height)


def _direct(stage: str, above: Sequence[str], upstream: Mapping[str, Sequence[str]]) -> list[str]:
    """Drop arrows that a longer way implies already: they would only cross the others."""
    implied: set[str] = set()
    for name in above:
        queue = list(upstream[name])
        while queue:
            further = queue.pop()
            if further not in implied:
                implied.add(further)
                queue.extend(upstream[further])
    return [name for name in above if name not in implied]


def _arrow(start: Box, end: Box, *, nearest: bool) -> str:
    x1, y1 = start.x + BOX_WIDTH, start.y + BOX_HEIGHT / 2
    x2, y2 = end.x - 5, end.y + BOX_HEIGHT / 2
    bend = GAP_X / 2 if nearest else GAP_X
    return f"M{x1:.0f},{y1:.0f} C{x1 + bend:.0f},{y1:.0f} {x2 - bend:.0f},{y2:.0f} {x2:.0f},{y2:.0f}"
