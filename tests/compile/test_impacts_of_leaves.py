"""Every leaf of every built-in kind does to the keys what its impact says, and nothing else."""

from __future__ import annotations

import functools
import tempfile
from pathlib import Path
from typing import Any, Literal, get_args, get_origin

import pytest
import yaml
from bench import ALL_KINDS, Bench, make_bench
from pydantic import BaseModel

from rlhfc.compile.impacts import Leaf, leaves
from rlhfc.kind import InputModel

# Leaves whose constraints leave no free choice.
OTHER = {
    "betas": [0.8, 0.9],
    "parts": [1, 1, 1],
    "template": "plain",
    "targets": ["q_proj"],
    "stop_token_ids": [5],
    "environment": {"NCCL_DEBUG": "INFO"},
    "deepspeed": {"comms_logger": {"enabled": True}},
    "confidence": 0.9,
    "minibatch_size": 32,
    "zero_stage": 0,
    "name": "other",
    "offload": "all",
    "pin": "b3:00000000",
    "ignore_changes": ["numerics"],
    "micro_batch_size": 4,
    "best": {"every": 2},
    "against": [{"data": {"path": "rows.jsonl"}, "column": "prompt"}],
}
# Stages that read settings of another stage, by the start of their addresses.
READS = {f"engines.{role}.": {"ppo"} for role in ("actor", "critic", "reference", "reward")}


def other_value(model: BaseModel, leaf: Leaf) -> Any:
    """A value that the leaf could have as well."""
    owner: Any = model
    for step in leaf.path[:-1]:
        owner = owner[step] if isinstance(step, int) else getattr(owner, step)
    name = str(leaf.path[-1])
    if name in OTHER and OTHER[name] != leaf.value:
        return OTHER[name]
    annotation = type(owner).model_fields[name].annotation
    options = [annotation, *get_args(annotation)]
    for option in options:
        if get_origin(option) is Literal:
            return next(choice for choice in get_args(option) if choice != leaf.value)
    if isinstance(leaf.value, bool):
        return not leaf.value
    if isinstance(leaf.value, int):
        return leaf.value * 2 or 1
    if isinstance(leaf.value, float):
        return leaf.value / 2 or 0.25
    if isinstance(leaf.value, str):
        return leaf.value + "x"
    return next(value for kind, value in ((int, 3), (float, 0.25), (str, "prompt")) if kind in options)


@functools.cache
def every_leaf() -> dict[str, tuple[Leaf, Any]]:
    """Stage and address to the leaf and another value, for all kinds."""
    found = {}
    with tempfile.TemporaryDirectory() as folder:
        actions = make_bench(Path(folder)).compile(ALL_KINDS).actions
    for stage, action in actions.items():
        for leaf in leaves(action.params):
            address = f"{stage}.{leaf.address}"
            if isinstance(leaf.value, InputModel):
                continue
            found[address] = (leaf, other_value(action.params, leaf))
    return found


@pytest.fixture(scope="module")
def keys_before(shared_bench: Bench) -> dict[str, str]:
    """Keys of the spec as it is."""
    return shared_bench.keys(ALL_KINDS)


@pytest.mark.parametrize("address", every_leaf())
def test_a_leaf_flips_the_keys_that_its_impact_says(
    address: str, shared_bench: Bench, keys_before: dict[str, str]
) -> None:
    """A semantic leaf flips its own stage and those that read it as a setting; any other leaf flips none."""
    leaf, value = every_leaf()[address]
    stage = address.partition(".")[0]
    readers = (stages for start, stages in READS.items() if address.startswith(start))
    expected = {stage}.union(*readers) if leaf.impact == "semantic" else set()
    text = yaml.safe_dump(value, default_flow_style=True).removesuffix("...\n").strip()
    after = shared_bench.keys(ALL_KINDS, [f"{address}={text}"])
    assert expected == {name for name, key in after.items() if key != keys_before[name]}


def test_the_leaves_cover_every_field_of_every_kind(shared_bench: Bench) -> None:
    """No field of a kind is left out of the walk, so none can be neither in the key nor outside of it."""
    for stage, action in shared_bench.compile(ALL_KINDS).actions.items():
        walked = {leaf.path[0] for leaf in leaves(action.params)}
        assert set(type(action.params).model_fields) == walked, stage


def test_an_unannotated_leaf_is_semantic() -> None:
    """Saying nothing about a leaf is the safe choice."""

    class Plain(BaseModel):
        depth: int = 3

    assert [Leaf(("depth",), 3, "semantic")] == leaves(Plain())


@pytest.mark.parametrize("input_leaf", ["sft.model", "split.tokenizer"])
def test_where_a_source_lies_never_enters_a_key(
    input_leaf: str, shared_bench: Bench, keys_before: dict[str, str]
) -> None:
    """A copy under another name holds the same, so the key is the same."""
    copy = shared_bench.folder / "copy"
    copy.mkdir(exist_ok=True)
    (copy / "config.json").write_text("{}")
    assert keys_before == shared_bench.keys(ALL_KINDS, [f"{input_leaf}={{path: copy}}"])
