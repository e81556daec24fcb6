"""``rlhfc explain``: which parts of a key differ, where they are written, what would be cached."""

from __future__ import annotations

import json

import pytest
from story import Story

from rlhfc.cli.main import main
from rlhfc.compile import keys
from rlhfc.explain.components import Group, changes, components, flat, told

SAME = ["  = 1 file of code, comments and docstrings aside", "  = kind, its version, launch command"]


def test_a_stage_that_never_ran(story: Story) -> None:
    """There is nothing to compare with, and an input waits."""
    assert [
        "second runs: never run",
        "  input left  waits for first.thing  pipe.yaml:8",
    ] == story.lines("explain", "pipe.yaml", "second")


def test_a_cached_stage(story: Story) -> None:
    """Everything is identical, and the result is named."""
    story.run()
    assert [
        "second is cached: its 11 key components are those of a result",
        "  = 6 settings",
        "  = 1 input: first.thing DIGEST0",
        *SAME,
        "",
        "result: run RUN0, just now, took TIME, 6 B, key DIGEST1",
    ] == story.lines("explain", "pipe.yaml", "second")


def test_an_edit(story: Story) -> None:
    """Each leaf is told with its old and new value and line, and apart from it what reruns nothing."""
    story.run()
    story.edit("    value: 2", "    # two lines\n    # of comment\n    value: 3")
    story.edit("log_every: 5", "log_every: 6")
    assert [
        "second runs: 1 of 11 key components differs",
        "  value  2 → 3  pipe.yaml:11 (was pipe.yaml:9)",
        "  = 5 settings",
        "  = 1 input: first.thing DIGEST0",
        *SAME,
        "",
        "differs, and reruns nothing:",
        "  log_every  5 → 6  runtime  pipe.yaml:3 (defaults)",
        "",
        "last result: run RUN0, just now, took TIME, 6 B, key DIGEST1",
        "would be cached with: value = 2 (run RUN0, just now)",
    ] == story.lines("explain", "pipe.yaml", "second")


def test_what_waits_and_what_would_be_cached(story: Story) -> None:
    """An upstream that reruns leaves its input open; earlier results are told, the nearest first."""
    story.run()
    story.run("--set", "second.value=3", "--set", "second.steps=4")
    story.edit("value: 2", "value: 4")
    assert [
        "second runs: 2 of 11 key components differ, 1 is pending",
        "  value       3 → 4                  pipe.yaml:9 (was --set second.value=3)",
        "  steps       4 → 1                  default (was --set second.steps=4)",
        "  input left  waits for first.thing  pipe.yaml:8",
        "  = 4 settings",
        *SAME,
        "",
        "last result: run RUN0, just now, took TIME, 6 B, key DIGEST0",
        "would be cached with: value = 2, first.thing = DIGEST1 (run RUN1, just now)",
        "would be cached with: value = 3, steps = 4, first.thing = DIGEST1 (run RUN0, just now)",
    ] == story.lines("explain", "pipe.yaml", "second", "--set", "first.value=9")


@pytest.mark.parametrize(
    ("after", "expected"),
    [
        ("# a comment\n", "second is cached: its 11 key components are those of a result"),
        ("NEW = 1\n", "second runs: 1 of 11 key components differs, 1 is pending"),
    ],
    ids=["comment", "code"],
)
def test_an_edit_of_code(after: str, expected: str, story: Story) -> None:
    """A comment is no difference; code is."""
    story.run()
    file = story.folder / "kinds" / "toy" / "main.py"
    file.write_text(file.read_text() + after)
    lines = story.lines("explain", "pipe.yaml", "second")
    assert (expected, "NEW" in after) == (lines[0], "  code toy/main.py  changed" in lines)


def test_the_key(story: Story) -> None:
    """The key document, a component a line, and beside it what it does not hold."""
    story.run()
    assert [
        "key DIGEST0",
        "  semantic  kind              toy",
        "  semantic  abi               1",
        "  semantic  numerics          recorded",
        "  semantic  seed              1234",
        "  semantic  right             none",
        "  semantic  value             2         pipe.yaml:9",
        "  semantic  steps             1",
        "  semantic  constant          false",
        "  semantic  input left        DIGEST1  pipe.yaml:8",
        "  semantic  code toy/main.py  DIGEST2",
        '  semantic  command           ["<launch.python>", "-m", "toy.main", "--config", "<config>"]',
        "",
        "recorded beside the key:",
        "  numeric  device               cpu",
        "  numeric  ranks                1",
        "  numeric  threads              1",
        "  runtime  log_every            5       pipe.yaml:3 (defaults)",
        "  runtime  retries              3",
        "  runtime  retry_delay          10.0",
        "  runtime  timeout              none",
        "  runtime  no_progress_timeout  1800.0",
        "  runtime  environment          {}",
        "  runtime  step_seconds         0.0",
        "  numeric  micro_batch_size     8",
        "  runtime  fits                 8",
        "  runtime  first                99",
        "  runtime  checkpoint_every     1",
        "  runtime  behave               well",
    ] == story.lines("explain", "pipe.yaml", "second", "--key")


def test_as_json(story: Story) -> None:
    """The same facts, in full."""
    story.run()
    story.edit("value: 2", "value: 3")
    document = json.loads(story.type("explain", "pipe.yaml", "second", "--json"))
    change = {
        "group": "setting",
        "path": "params.value",
        "before": 2,
        "after": 3,
        "place": "pipe.yaml:9",
        "place_before": "pipe.yaml:9",
    }
    last = document["last_result"]
    assert {
        "format_version": "1.0",
        "stage": "second",
        "kind": "toy",
        "verdict": "run",
        "key": document["key"],
        "causes": ["value 2 → 3"],
        "components": document["components"],
        "changes": [change],
        "pending": [],
        "recorded": [],
        "last_result": {
            "run": last["run"],
            "time": last["time"],
            "key": last["key"],
            "whole": True,
            "accepted": None,
        },
        "would_be_cached_with": [
            {"run": last["run"], "time": last["time"], "key": last["key"], "needs": [change]}
        ],
    } == document
    component = {"group": "setting", "path": "params.value", "value": 3, "impact": "semantic"}
    assert [{**component, "place": "pipe.yaml:9"}] == [
        item for item in document["components"] if item["path"] == "params.value"
    ]


def test_an_accepted_result(story: Story) -> None:
    """The run that made it is named, and who accepted it, when, why, and what it stood under."""
    story.run()
    words = ("pipe.yaml", "second", "--why", "no other figures", "--who", "Ada")
    assert 0 == main(["accept", *words, "--set", "second.value=3"])
    assert 0 == main(["accept", *words, "--set", "second.value=4"])
    story.capture.readouterr()
    lines = story.lines("explain", "pipe.yaml", "second", "--set", "second.value=4")
    assert [
        "second is cached: its 11 key components are those of a result that was accepted",
        "result: run RUN0, just now, took TIME, 6 B, key DIGEST1",
        "accepted by Ada just now: no other figures; it stood under DIGEST2",
    ] == [lines[0], *lines[-2:]]
    given = ["explain", "pipe.yaml", "second", "--set", "second.value=4", "--json"]
    accepted = json.loads(story.type(*given))["last_result"]["accepted"]
    assert ("Ada", "no other figures") == (accepted["who"], accepted["why"])


def test_an_ignored_change(story: Story) -> None:
    """What differs from the result is listed, and said to be ignored."""
    story.run()
    options = ("--set", "second.value=3", "--set", "second.ignore_changes=[value]")
    lines = story.lines("explain", "pipe.yaml", "second", *options)
    assert [
        "second is cached: 1 of 11 key components differs, which is ignored",
        "  value  2 → 3  --set second.value=3 (was pipe.yaml:9)",
        "  = 5 settings",
    ] == lines[:3]


def test_a_result_that_is_gone(story: Story) -> None:
    """When nothing of the key differs, the store has lost the result, and no earlier one is offered."""
    story.run()
    for file in (story.folder / ".rlhfc" / "actions").rglob("*.json"):
        file.unlink()
    assert [
        "first runs: its result is no longer whole in the store",
        "  = 7 settings",
        *SAME,
        "",
        "last result: run RUN0, just now, no longer whole in the store, key DIGEST0",
    ] == story.lines("explain", "pipe.yaml", "first")


def test_a_name_that_no_stage_has(story: Story) -> None:
    """It is told with the nearest one."""
    assert "error: `explain secnd` names no stage\nhint: did you mean `second`?\n" == story.refused(
        "explain", "pipe.yaml", "secnd"
    )


def test_components_of_nested_values() -> None:
    """Mappings and lists of mappings are taken apart, other lists are one value, masked leaves none."""
    value = {"a": {"b": 1, "c": "<runtime>"}, "d": [{"e": 2}, {"e": 3}], "f": [1, 2], "g": {}}
    assert [("a.b", 1), ("d.0.e", 2), ("d.1.e", 3), ("f", [1, 2])] == list(flat(value))


def test_order_of_changes() -> None:
    """Settings come first, then inputs, code and libraries; a whole number is not a fraction."""

    def document(rate: float, rows: str, torch: str) -> dict[str, object]:
        return {
            "kind": "fit",
            "abi": 1,
            "argv": ["python"],
            "config": {"params": {"rate": rate, "data": "data"}, "settings": {}, "deepspeed": {}},
            "inputs": {"data": rows},
            "code": {},
            "libraries": {"torch": torch},
        }

    before, after = (components(document(*values)) for values in ((1, "b3:1", "2.1"), (1.0, "b3:2", "2.2")))
    assert [(Group.SETTING, "params.rate"), (Group.INPUT, "data"), (Group.LIBRARY, "torch")] == [
        (change.group, change.path) for change in changes(before, after)
    ]


@pytest.mark.parametrize(
    ("rate", "expected"),
    [(1, [(Group.ENGINE, "train.fp16.enabled", True, None), (Group.ENGINE, "train.steps", 1, 2)]),
     (2, [(Group.SETTING, "params.rate", 1, 2)])],
    ids=["alone", "with a setting"],
)  # fmt: skip
def test_a_deepspeed_config_follows_from_settings(rate: int, expected: list[object]) -> None:
    """It is told value by value when no setting has changed, and not at all when one has."""
    old = {
        (Group.SETTING, "params.rate"): 1,
        (Group.ENGINE, "train"): {"steps": 1, "fp16": {"enabled": True}},
    }
    new = {(Group.SETTING, "params.rate"): rate, (Group.ENGINE, "train"): {"steps": 2}}
    found = [(change.group, change.path, change.before, change.after) for change in told(changes(old, new))]
    assert expected == sorted(found)


def test_a_key_that_is_made_otherwise(story: Story, monkeypatch: pytest.MonkeyPatch) -> None:
    """After a change of how keys are hashed nothing differs, and no value would bring the result back."""
    story.run()
    monkeypatch.setattr(keys, "ACTION_TAG", b"another")
    lines = story.lines("explain", "pipe.yaml", "first")
    assert [] == [line for line in lines if line.startswith("would")]
    assert "last result: run RUN0, just now, took TIME, 3 B, key DIGEST0" == lines[-1]
