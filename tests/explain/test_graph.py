"""``rlhfc graph``: Mermaid, DOT and SVG of the stages with their states."""

from __future__ import annotations

from pathlib import Path
from xml.etree import ElementTree

from story import SPEC, Story

from rlhfc.explain.diagram import Diagram, dot, mermaid

SVG = "{http://www.w3.org/2000/svg}"
THIRD = "  third: {kind: toy, left: second.thing, right: first.thing}\n"


def test_mermaid(story: Story) -> None:
    """Each stage with kind and verdict, coloured; an arrow that a longer way implies is left out."""
    story.run()
    story.spec.write_text(SPEC + THIRD)
    story.edit("value: 2", "value: 3")
    assert """\
flowchart LR
  s0["first<br/>toy · cached"]:::good
  s1["second<br/>toy · run"]:::new
  s2["third<br/>toy · run"]:::new
  s0 --> s1
  s1 --> s2
  classDef good stroke:#1a7f37,stroke-width:2px
  classDef new stroke:#1f6feb,stroke-width:2px
""" == story.type("graph", "pipe.yaml")


def test_dot(story: Story) -> None:
    """The same for Graphviz."""
    assert """\
digraph "pipe" {
  rankdir=LR
  node [shape=box, style=rounded, fontname="Helvetica"]
  "first" [label="first\\ntoy · run", color="#1f6feb"]
  "second" [label="second\\ntoy · run", color="#1f6feb"]
  "first" -> "second"
}
""" == story.type("graph", "pipe.yaml", "--format", "dot")


def test_svg_in_a_file(story: Story) -> None:
    """The drawing of the report as a file of its own: whole XML with a box a stage and what it says."""
    story.run()
    assert "graph.svg\n" == story.type("graph", "pipe.yaml", "--format", "svg", "-o", "graph.svg")
    root = ElementTree.parse(story.folder / "graph.svg").getroot()
    boxes = [
        (box.get("class"), [text.text for text in box.iter(f"{SVG}text")]) for box in root.iter(f"{SVG}g")
    ]
    assert [("good", ["first", "toy · cached"]), ("good", ["second", "toy · cached"])] == boxes
    arrows = [path.get("class") for path in root.iter(f"{SVG}path")]
    assert (["tip", "arrow"], True) == (arrows, ".good .box" in (root.find(f"{SVG}style").text or ""))


def test_without_states(story: Story) -> None:
    """Nothing but the spec is read: neither a store nor an input needs to be there."""
    story.spec.write_text(SPEC.replace("value: 1,", "left: {path: nowhere},"))
    (story.folder / ".rlhfc").write_text("no store")
    assert """\
flowchart LR
  s0["first<br/>toy"]:::plain
  s1["second<br/>toy"]:::plain
  s0 --> s1
  classDef plain stroke:#5f6b76,stroke-width:2px
""" == story.type("graph", "pipe.yaml", "--no-state")
    assert "error: first.left:" in story.refused("graph", "pipe.yaml")


def test_a_file_that_cannot_be_written(story: Story) -> None:
    """It is told by its name."""
    target = Path("none") / "graph.svg"
    assert f"error: cannot write `{target}`: No such file or directory\n" == story.refused(
        "graph", "pipe.yaml", "-o", str(target)
    )


def test_names_are_quoted() -> None:
    """What means something to Mermaid or DOT stays text."""
    diagram = Diagram('a "b"', {"end": ()}, {"end": 'k"\\'}, {"end": ""})
    assert '  s0["end<br/>k#quot;\\"]:::plain' == mermaid(diagram).splitlines()[1]
    lines = dot(diagram).splitlines()
    assert ('digraph "a \\"b\\"" {', '  "end" [label="end\\nk\\"\\\\", color="#5f6b76"]') == (
        lines[0],
        lines[3],
    )
