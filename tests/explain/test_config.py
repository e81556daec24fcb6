"""``rlhfc config``: the whole spec with the origin of each value, fit to be run again."""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from story import Story

from rlhfc.explain.resolved import resolved_lines, yaml_text
from rlhfc.spec.load import load_pipeline
from rlhfc.spec.parse import parse_text

ROOT = Path(__file__).parents[2]
SPECS = sorted([*ROOT.glob("pipelines/*.yaml"), *ROOT.glob("examples/*/pipeline.yaml")])


def test_the_text(story: Story) -> None:
    """Every value has its line, its default, or the option it came from."""
    assert """\
schema: 1
name: pipe
kinds: [kinds]
stages:
  second:
    kind: toy
    numerics: recorded           # default
    device: auto                 # default
    ranks: 1                     # default
    threads: 1                   # default
    seed: 1234                   # default
    log_every: 5                 # pipe.yaml:3 (defaults)
    retries: 3                   # default
    retry_delay: 10.0            # default
    timeout: null                # default
    no_progress_timeout: 1800.0  # default
    environment: {}              # default
    description: "on"            # --set second.description='on'
    frozen: false                # default
    pin: null                    # default
    ignore_changes: []           # default
    left: first.thing            # pipe.yaml:8
    right: null                  # default
    value: 2                     # pipe.yaml:9
    steps: 1                     # default
    constant: false              # default
    step_seconds: 0.0            # default
    micro_batch_size: 8          # default
    fits: 8                      # default
    first: 99                    # default
    checkpoint_every: 1          # default
    behave: well                 # default
""" == story.type("config", "pipe.yaml", "second", "--set", "second.description='on'")


def test_what_is_written_only(story: Story) -> None:
    """Without the fields' defaults a spec of the same meaning stays."""
    assert """\
schema: 1
name: pipe
kinds: [kinds]
stages:
  first:
    kind: toy
    log_every: 5       # pipe.yaml:3 (defaults)
    value: 1           # pipe.yaml:5
    steps: 2           # pipe.yaml:5
  second:
    kind: toy
    log_every: 5       # pipe.yaml:3 (defaults)
    left: first.thing  # pipe.yaml:8
    value: 2           # pipe.yaml:9
""" == story.type("config", "pipe.yaml", "--explicit")


def test_as_json(story: Story) -> None:
    """Value, origin and impact of each leaf."""
    document = json.loads(story.type("config", "pipe.yaml", "second", "--json", "--explicit"))
    assert {
        "format_version": "1.0",
        "pipeline": "pipe",
        "spec": str(story.spec),
        "stages": [
            {
                "stage": "second",
                "kind": "toy",
                "values": [
                    {
                        "path": "log_every",
                        "value": 5,
                        "origin": "pipe.yaml:3 (defaults)",
                        "impact": "runtime",
                    },
                    {"path": "left", "value": "first.thing", "origin": "pipe.yaml:8", "impact": "semantic"},
                    {"path": "value", "value": 2, "origin": "pipe.yaml:9", "impact": "semantic"},
                ],
            }
        ],
    } == document


@pytest.mark.parametrize("explicit", [False, True], ids=["whole", "explicit"])
@pytest.mark.parametrize("path", SPECS, ids=lambda path: path.relative_to(ROOT).as_posix())
def test_it_can_be_run_again(path: Path, explicit: bool) -> None:
    """What is printed, put beside the spec, means the same in every value."""
    spec = load_pipeline(path)
    text = "\n".join(resolved_lines(spec, spec.stages, explicit=explicit)).encode()
    again = load_pipeline(path.with_name("resolved.yaml"), read=lambda _: text)
    assert (spec.name, spec.description) == (again.name, again.description)
    plain = dict(zip(spec.stages, again.stages, strict=True))  # variants stand alone under plain names
    assert all(name == plain[name] for name in spec.stages if "@" not in name)
    # A kind of the user's is loaded anew each time: its class is another.
    assert [
        (stage.loaded.folder, referring(stage.params.model_dump(), plain)) for stage in spec.stages.values()
    ] == [(stage.loaded.folder, stage.params.model_dump()) for stage in again.stages.values()]


def referring(value: Any, names: Mapping[str, str]) -> Any:
    """Plain values in which references lead to stages of other names."""
    if isinstance(value, list):
        return [referring(item, names) for item in value]
    if not isinstance(value, dict):
        return value
    inside = {name: referring(item, names) for name, item in value.items()}
    if isinstance(inside.get("ref"), str):
        stage, _, port = inside["ref"].rpartition(".")
        inside["ref"] = f"{names[stage]}.{port}"
    return inside


def test_a_stage_that_is_not_there(story: Story) -> None:
    """It is told with the nearest name."""
    assert "error: `config frist` names no stage\nhint: did you mean `first`?\n" == story.refused(
        "config", "pipe.yaml", "frist"
    )


WORDS = st.sampled_from(
    ["on", "null", "~", "12", "1e-5", "012", "12:30:00", "a: b", "a #b", "- a", "", "<<", "\x85"]
)
SCALARS = st.one_of(
    st.none(), st.booleans(), st.integers(-(10**30), 10**30),
    st.floats(allow_nan=False, allow_infinity=False),
    st.text(st.characters(exclude_categories=["Cs"])), WORDS,
)  # fmt: skip
VALUES = st.recursive(
    SCALARS,
    lambda below: st.one_of(st.lists(below), st.dictionaries(st.text("abc<~ :#{,", min_size=1), below)),
)


@given(VALUES)
def test_any_value_is_read_back(value: object) -> None:
    """What we write in one line of YAML is what our parser reads."""
    line = yaml_text(value)
    assert (value, 1) == (
        parse_text(f"- {line}  # mine\n", Path("x")).plain()[0],
        len(line.splitlines() or [1]),
    )
