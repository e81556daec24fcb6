"""A comparison as lines for people."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

from rlhfc.explain.comparison import Comparison, Output, StageComparison
from rlhfc.explain.components import Change
from rlhfc.explain.sides import Side
from rlhfc.explain.text import Row, change_words, indented, name, place_words, shown
from rlhfc.plan import quantities
from rlhfc.run.summary import telling_first


def comparison_lines(found: Comparison) -> list[str]:
    """Both names, then a part for each thing that differs; outputs of runs in any case."""
    lines = [f"{_side(found.before)} → {_side(found.after)}"]
    parts: dict[str, list[Row]] = {
        "spec": [*_stages(found), *_changes(found, "settings")],
        "inputs": list(_changes(found, "inputs")),
        "code": list(_changes(found, "code")),
        "environment": [(what, f"{shown(old)} → {shown(new)}", "") for what, old, new in found.environment],
        "outputs": [row for stage in found.stages for row in _outputs(stage)],
        "figures": [row for stage in found.stages for row in _figures(stage)],
    }
    for title, rows in parts.items():
        if rows:
            lines += [title, *indented(rows)]
    return lines if found.different else [*lines, "no difference"]


def _side(side: Side) -> str:
    return f"{side.name} ({quantities.commit(side.commit)})" if side.commit else side.name


def _stages(found: Comparison) -> Iterator[Row]:
    for stage, kind in found.removed.items():
        yield stage, f"removed{f' ({kind})' if kind else ''}", ""
    for stage, kind in found.added.items():
        yield stage, f"added{f' ({kind})' if kind else ''}", ""


def _changes(found: Comparison, part: str) -> Iterator[Row]:
    for stage in found.stages:
        changes: tuple[Change, ...] = getattr(stage, part)
        for change in changes:
            # Under a heading that says input or code the path is enough.
            path = change.path if part in ("inputs", "code") else name(change.group, change.path)
            where = place_words(change.place, change.place_before)
            yield f"{stage.stage}{': ' if part == 'code' else '.'}{path}", change_words(change), where


def _outputs(stage: StageComparison) -> Iterator[Row]:
    for output in stage.outputs:
        sizes = (output.size_before, output.size_after)
        words = [quantities.size(size) for size in sizes if size is not None]
        yield f"{stage.stage}.{output.port}", _output_words(output), " → ".join(dict.fromkeys(words))


def _output_words(output: Output) -> str:
    if output.before is None or output.after is None:
        return "new" if output.before is None else "gone"
    return "identical" if output.identical else "differs"


def _figures(stage: StageComparison) -> Iterator[Row]:
    figures = {figure: (before, after) for figure, before, after in stage.figures}
    for figure in telling_first(figures):
        before, after = figures[figure]
        yield f"{stage.stage}.{figure}", f"{_number(before)} → {_number(after)}", _step(before, after)


def _step(before: Any, after: Any) -> str:
    """The difference of two numbers with its sign: ``+0.017``."""
    numbers = all(isinstance(value, int | float) and not isinstance(value, bool) for value in (before, after))
    return f"{after - before:+.4g}" if numbers else ""


def _number(value: Any) -> str:
    return f"{value:.4g}" if isinstance(value, float) else shown(value)
