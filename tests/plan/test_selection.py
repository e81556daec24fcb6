"""`--target`, `--from`, `--until`: plans of a part of a pipeline."""

from __future__ import annotations

import json
from datetime import UTC, datetime
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import networkx
import pytest
from hypothesis import given
from hypothesis import strategies as st
from toy import Toy

from rlhfc.cli.main import main
from rlhfc.compile.action import Pipeline, UpstreamOutput
from rlhfc.errors import UserError
from rlhfc.plan.describe import plan_document
from rlhfc.plan.planner import Plan
from rlhfc.plan.select import Selected, Selection, plan_selected, select, with_skipped
from rlhfc.plan.text import plan_lines

# data → sft → ppo → score, data → reward → ppo, reward → card
GRAPH: networkx.DiGraph[str] = networkx.DiGraph(
    [
        ("data", "sft"),
        ("data", "reward"),
        ("sft", "ppo"),
        ("reward", "ppo"),
        ("ppo", "score"),
        ("reward", "card"),
    ]
)
NOW = datetime(2026, 3, 4, 11, tzinfo=UTC)


def pipeline_of(graph: networkx.DiGraph[str]) -> Pipeline:
    """A pipeline whose stages read from each other as the graph says, and are nothing else."""
    actions: Any = {}
    for name in networkx.topological_sort(graph):
        inputs = {above: UpstreamOutput(above, "out") for above in graph.predecessors(name)}
        actions[name] = SimpleNamespace(inputs=inputs)
    return Pipeline("p", Path("p.yaml"), actions)


@pytest.mark.parametrize(
    ("asked", "chosen", "required"),
    [
        (Selection(), {"data", "sft", "reward", "ppo", "score", "card"}, set()),
        (Selection(target=("sft",)), {"data", "sft"}, set()),
        (Selection(target=("sft", "card")), {"data", "sft", "reward", "card"}, set()),
        (Selection(start=("ppo",)), {"ppo", "score"}, {"data", "sft", "reward"}),
        (Selection(start=("card", "score")), {"card", "score"}, {"data", "sft", "reward", "ppo"}),
        (Selection(until=("ppo",)), {"data", "sft", "reward", "ppo", "card"}, set()),
        (Selection(until=("sft", "reward")), {"data", "sft", "reward"}, set()),
        (Selection(target=("score",), start=("reward",)), {"reward", "ppo", "score"}, {"data", "sft"}),
        (Selection(start=("reward",), until=("ppo",)), {"reward", "ppo", "card"}, {"data", "sft"}),
    ],
    ids=lambda value: str(value) if isinstance(value, Selection) else "",
)
def test_what_is_chosen(asked: Selection, chosen: set[str], required: set[str]) -> None:
    """Stages that may run, and those that must be there; several options narrow down together."""
    assert Selected(frozenset(chosen), frozenset(required), asked) == select(pipeline_of(GRAPH), asked)


@st.composite
def selections(draw: st.DrawFn) -> tuple[networkx.DiGraph[str], Selection]:
    """A graph of up to eight stages, and options that name some of them."""
    names = [f"s{index}" for index in range(draw(st.integers(1, 8)))]
    pairs = [(left, right) for place, left in enumerate(names) for right in names[place + 1 :]]
    graph: networkx.DiGraph[str] = networkx.DiGraph()
    graph.add_nodes_from(names)
    graph.add_edges_from(draw(st.lists(st.sampled_from(pairs), unique=True)) if pairs else [])
    some = st.lists(st.sampled_from(names), max_size=2, unique=True).map(tuple)
    return graph, Selection(draw(some), draw(some), draw(some))


@given(selections())
def test_any_selection(asked: tuple[networkx.DiGraph[str], Selection]) -> None:
    """What is kept can be planned alone, only `--from` requires, and each option does what it says."""
    graph, selection = asked
    try:
        selected = select(pipeline_of(graph), selection)
    except UserError:
        assert selection != Selection()
        return
    kept = selected.chosen | selected.required
    assert all(set(graph.predecessors(name)) <= kept for name in kept)
    assert selection.start or not selected.required
    assert not selected.chosen & selected.required
    for name in graph:
        reach = networkx.descendants(graph, name) | {name}
        targeted = not selection.target or bool(reach & set(selection.target))
        started = not selection.start or any(networkx.has_path(graph, end, name) for end in selection.start)
        behind = any(networkx.has_path(graph, end, name) and end != name for end in selection.until)
        assert (name in selected.chosen) == (targeted and started and not behind)


def test_nothing_is_left() -> None:
    """Options that exclude each other are told as they were given."""
    with pytest.raises(UserError) as refused:
        select(pipeline_of(GRAPH), Selection(target=("sft",), start=("card",)))
    assert (
        "error: `--target sft --from card` leaves no stage to run\n"
        "hint: given together, all of them hold: leave one out"
    ) == str(refused.value)


def part(toy: Toy, asked: Selection) -> Plan:
    """Plan a part of the toy pipeline as `rlhfc plan` does."""
    pipeline = toy.pipeline()
    selected = select(pipeline, asked)
    return with_skipped(plan_selected(pipeline, selected, toy.store, toy.installed.get), pipeline)


def test_the_text(toy: Toy) -> None:
    """What is left out is one quiet line, and counts for nothing."""
    toy.run()
    toy.edit("fit", rate=0.05)
    toy.edit("score", rate=0.05)
    document = plan_document(part(toy, Selection(until=("fit",))), ".rlhfc", 0, {})
    assert """
toy · toy.yaml · store .rlhfc · no GPU here

  =  split  cached   3 d ago, took 4 min 10 s, 13.5 MB
  ±  fit    run      rate 0.1 → 0.05
  -  score  skipped

Plan: 1 to run, 1 cached, 1 skipped
""" == "\n".join(["", *plan_lines(document, NOW), ""])
    skipped = document["stages"][2]
    assert ("score", "skipped", None, []) == tuple(
        skipped[name] for name in ("stage", "verdict", "key", "reasons")
    )


def test_what_is_skipped_is_no_change(toy: Toy) -> None:
    """When all that is chosen is cached there is nothing to do, whatever else has changed."""
    toy.run()
    toy.edit("score", rate=0.05)
    document = plan_document(part(toy, Selection(target=("fit",))), ".rlhfc", 0, {})
    assert not document["changes"]
    assert "Nothing to do: 2 stages cached, 1 skipped" == plan_lines(document, NOW)[-1]


def test_a_skipped_stage_is_not_looked_up(toy: Toy) -> None:
    """A part of a plan costs what the part costs."""
    toy.run()
    toy.store.asked.clear()
    part(toy, Selection(target=("split",)))
    assert [toy.store.last["toy/split"]] == toy.store.asked


def test_from_needs_what_is_upstream(toy: Toy) -> None:
    """`--from` does not run what it leaves out, so that must be there."""
    toy.run()
    toy.edit("fit", rate=0.05)
    with pytest.raises(UserError) as refused:
        part(toy, Selection(start=("score",)))
    assert (
        "toy.yaml:1:1: error: fit is left out by `--from score`, and is not cached\n"
        "hint: make it first, with `--target fit`, or leave out `--from`"
    ) == str(refused.value)


def test_the_options(spec: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """They are options of `plan`, and those that are not known, or contradict, are told."""
    assert 2 == main(["plan", "toy.yaml", "--target", "first", "--json", "--detailed-exitcode"])
    verdicts = {stage["stage"]: stage["verdict"] for stage in json.loads(capsys.readouterr().out)["stages"]}
    assert {"first": "run", "second": "skipped"} == verdicts
    assert 1 == main(["plan", "toy.yaml", "--until", "first", "--force", "second"])
    assert "error: `--force second` is left out by `--until first`\n" == capsys.readouterr().err
    assert 1 == main(["plan", "toy.yaml", "--from", "second"])
    assert (
        f"{spec}:4:1: error: first is left out by `--from second`, and is not cached\n"
        "    4 |   first: {kind: toy, source: {path: rows.jsonl}}\n"
        "      | ^\n"
        "hint: make it first, with `--target first`, or leave out `--from`\n"
    ) == capsys.readouterr().err
