"""A pipeline's graph as text for other programs: Mermaid and DOT."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass

from rlhfc.report.graph import TONES, Tone, telling_arrows

# Those of the report on white paper.
COLOURS: Mapping[Tone, str] = {
    "good": "#1a7f37",
    "bad": "#c1272d",
    "wait": "#8a6100",
    "new": "#1f6feb",
    "plain": "#5f6b76",
}


@dataclass(frozen=True)
class Diagram:
    """What is drawn.

    Attributes:
        upstream: stage to the stages that it reads from, in topological order.
        kinds: stage to its kind.
        states: stage to its state; empty for none.
    """

    name: str
    upstream: Mapping[str, Sequence[str]]
    kinds: Mapping[str, str]
    states: Mapping[str, str]

    def words(self, stage: str) -> str:
        """What stands below a stage's name."""
        return " · ".join(filter(None, (self.kinds[stage], self.states[stage])))

    def tone(self, stage: str) -> Tone:
        """Colour of a stage's state."""
        return TONES.get(self.states[stage], "plain")


def mermaid(diagram: Diagram) -> str:
    """A flowchart, as GitHub shows it in Markdown."""
    return "\n".join(_mermaid_lines(diagram)) + "\n"


def _mermaid_lines(diagram: Diagram) -> Iterator[str]:
    # Names of stages may mean something in Mermaid (`end`), so nodes are numbered.
    numbers = {stage: f"s{number}" for number, stage in enumerate(diagram.upstream)}
    yield "flowchart LR"
    for stage, number in numbers.items():
        label = f"{stage}<br/>{diagram.words(stage)}".replace('"', "#quot;")
        yield f'  {number}["{label}"]:::{diagram.tone(stage)}'
    for start, end in telling_arrows(diagram.upstream):
        yield f"  {numbers[start]} --> {numbers[end]}"
    for tone in dict.fromkeys(map(diagram.tone, diagram.upstream)):
        yield f"  classDef {tone} stroke:{COLOURS[tone]},stroke-width:2px"


def dot(diagram: Diagram) -> str:
    """A digraph for Graphviz."""
    return "\n".join(_dot_lines(diagram)) + "\n"


def _dot_lines(diagram: Diagram) -> Iterator[str]:
    yield f"digraph {_quoted(diagram.name)} {{"
    yield "  rankdir=LR"
    yield '  node [shape=box, style=rounded, fontname="Helvetica"]'
    for stage in diagram.upstream:
        label = _quoted(stage)[:-1] + r"\n" + _quoted(diagram.words(stage))[1:]
        yield f'  {_quoted(stage)} [label={label}, color="{COLOURS[diagram.tone(stage)]}"]'
    for start, end in telling_arrows(diagram.upstream):
        yield f"  {_quoted(start)} -> {_quoted(end)}"
    yield "}"


def _quoted(text: str) -> str:
    escaped = text.replace("\\", "\\\\").replace('"', '\\"')
    return f'"{escaped}"'
