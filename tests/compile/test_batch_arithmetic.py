"""Batch words come out by exact division, or with the numbers that would work."""

from __future__ import annotations

import pytest
from bench import ALL_KINDS, Bench

from rlhfc.compile.action import Action, Batch
from rlhfc.compile.batch import BatchError, divide, smaller, with_sizes
from rlhfc.compile.deepspeed import deepspeed_configs
from rlhfc.compile.render import keyed_config
from rlhfc.errors import UserError


@pytest.mark.parametrize(
    ("whole", "ranks", "micro", "expected"),
    [
        (64, 1, None, Batch(64, 8, 8, 1)),
        (64, 8, None, Batch(64, 8, 1, 8)),
        (64, 4, 2, Batch(64, 2, 8, 4)),
        (6, 1, None, Batch(6, 6, 1, 1)),
        (22, 2, None, Batch(22, 1, 11, 2)),
        (20, 2, None, Batch(20, 5, 2, 2)),
        (1, 1, None, Batch(1, 1, 1, 1)),
        (32, 1, 32, Batch(32, 32, 1, 1)),
    ],
)
def test_division(whole: int, ranks: int, micro: int | None, expected: Batch) -> None:
    """The micro-batch is the largest divisor of a rank's share up to 8, unless it is given."""
    assert expected == divide("global_batch_size", whole, ranks, micro)
    assert whole == expected.micro * expected.accumulation * expected.ranks


@pytest.mark.parametrize(
    ("whole", "ranks", "micro", "field", "message", "hint"),
    [
        (
            64,
            3,
            None,
            "global_batch_size",
            "`global_batch_size` 64 does not divide over `ranks` 3",
            "set `global_batch_size` to 63 or 66, or `ranks` to 2 or 4",
        ),
        (
            2,
            8,
            None,
            "global_batch_size",
            "`global_batch_size` 2 does not divide over `ranks` 8",
            "set `global_batch_size` to 8, or `ranks` to 2",
        ),
        (
            64,
            2,
            5,
            "micro_batch_size",
            "`global_batch_size` 64 over `ranks` 2 gives 32 a rank, no multiple of `micro_batch_size` 5",
            "set `micro_batch_size` to 4 or 8",
        ),
        (
            4,
            1,
            16,
            "micro_batch_size",
            "`global_batch_size` 4 over `ranks` 1 gives 4 a rank, no multiple of `micro_batch_size` 16",
            "set `micro_batch_size` to 4",
        ),
    ],
)
def test_remainders(whole: int, ranks: int, micro: int | None, field: str, message: str, hint: str) -> None:
    """A remainder is refused with the field, the numbers and the nearest values that work."""
    with pytest.raises(BatchError) as caught:
        divide("global_batch_size", whole, ranks, micro)
    (found,) = caught.value.diagnostics
    assert (field, message, hint) == (caught.value.field, found.message, found.hint)


def batches(bench: Bench, all_kinds: str, *overrides: str) -> dict[str, Batch | None]:
    """The batch of every stage."""
    return {name: action.batch for name, action in bench.compile(all_kinds, overrides).actions.items()}


def test_each_kind_has_its_batch(bench: Bench, all_kinds: str) -> None:
    """Training stages have a batch; of PPO it is the minibatch, or else the whole rollout."""
    expected = dict.fromkeys(["split", "before", "engines", "score", "card"])
    expected |= dict.fromkeys(["sft", "rm", "direct", "ppo"], Batch(64, 8, 8, 1))
    assert expected == batches(bench, all_kinds)
    assert Batch(16, 8, 1, 2) == batches(bench, all_kinds, "ppo.minibatch_size=16", "ppo.ranks=2")["ppo"]


def test_a_rollout_divides_over_the_ranks_as_well(bench: Bench, all_kinds: str) -> None:
    """A minibatch that divides does not excuse a rollout that does not: the error points at the rollout."""
    overrides = ["ppo.rollout_batch_size=9", "ppo.minibatch_size=9", "ppo.ranks=2"]
    with pytest.raises(UserError) as caught:
        bench.compile(all_kinds, overrides)
    assert (
        "--set: error: ppo: `rollout_batch_size` 9 does not divide over `ranks` 2\n"
        "      | ppo.rollout_batch_size=9\n"
        "      |                        ^\n"
        "hint: set `rollout_batch_size` to 8 or 10, or `ranks` to 1 or 3" == str(caught.value)
    )


def halvings(action: Action) -> list[Action]:
    """The action, and each that is smaller than the one before."""
    found = [action]
    while (less := smaller(found[-1])) is not None:
        found.append(less)
    return found


def test_smaller_micro_batches_keep_the_global_batch_and_the_key(bench: Bench) -> None:
    """Halved down to one row: the DeepSpeed config follows, the key document does not."""
    actions = bench.compile(ALL_KINDS, ["sft.global_batch_size=24", "sft.micro_batch_size=6"]).actions
    found = halvings(actions["sft"])
    assert [Batch(24, 6, 4, 1), Batch(24, 3, 8, 1), Batch(24, 1, 24, 1)] == [a.batch for a in found]
    for action in found:
        config = deepspeed_configs(action)["train"]
        batch = action.batch
        assert batch is not None
        assert (batch.whole, batch.micro, batch.accumulation) == (
            config["train_batch_size"],
            config["train_micro_batch_size_per_gpu"],
            config["gradient_accumulation_steps"],
        )
        assert keyed_config(actions["sft"]) == keyed_config(action)
    assert 3 == found[1].params.micro_batch_size  # type: ignore[attr-defined]


def test_every_engine_of_ppo_gets_smaller_and_so_does_generation(bench: Bench) -> None:
    """Actor and critic share the micro-batch; what is drawn at a time is halved beside it."""
    options = ["ppo.rollout_batch_size=16", "ppo.minibatch_size=8", "ppo.micro_batch_size=4"]
    ppo = bench.compile(ALL_KINDS, options).actions["ppo"]
    sizes = []
    for action in halvings(ppo):
        configs = deepspeed_configs(action)
        micro = {configs[name]["train_micro_batch_size_per_gpu"] for name in ("actor", "critic")}
        assert {8} == {configs[name]["train_batch_size"] for name in ("actor", "critic")}
        assert action.batch is not None
        assert {action.batch.micro} == micro
        sizes.append((action.batch.micro, action.params.generation_batch_size))  # type: ignore[attr-defined]
    assert [(4, None), (2, 8), (1, 4), (1, 2), (1, 1)] == sizes


def test_a_stage_without_a_global_batch_gets_smaller_too(bench: Bench) -> None:
    """`evaluate` answers fewer prompts at a time; `export` has nothing to lower."""
    actions = bench.compile(ALL_KINDS, ["score.micro_batch_size=4"]).actions
    found = [action.params.micro_batch_size for action in halvings(actions["score"])]  # type: ignore[attr-defined]
    assert [4, 2, 1] == found
    assert smaller(actions["card"]) is None


def test_a_micro_batch_in_the_key_is_left_alone(bench: Bench) -> None:
    """Under `numerics: strict` another micro-batch is another result."""
    assert smaller(bench.compile(ALL_KINDS, ["sft.numerics=strict"]).actions["sft"]) is None


def test_what_fitted_is_found_again(bench: Bench) -> None:
    """Halved until nothing is above the sizes that a former launch had."""
    sft = bench.compile(ALL_KINDS, ["sft.global_batch_size=24", "sft.micro_batch_size=6"]).actions["sft"]
    assert Batch(24, 3, 8, 1) == with_sizes(sft, {"micro_batch_size": 4}).batch
    assert sft == with_sizes(sft, {})
