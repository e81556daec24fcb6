"""DeepSpeed configs as whole mappings."""

from __future__ import annotations

from typing import Any

import pytest
from bench import Bench

from rlhfc.compile.action import Batch
from rlhfc.compile.deepspeed import (
    DERIVED,
    IMPACTS,
    Engine,
    deepspeed_configs,
    derived_config,
    keyed_configs,
)
from rlhfc.errors import UserError
from rlhfc.kind import EngineParams

BATCH = Batch(64, 4, 8, 2)
ALWAYS = {
    "train_batch_size": 64,
    "train_micro_batch_size_per_gpu": 4,
    "gradient_accumulation_steps": 8,
    "zero_allow_untested_optimizer": True,
    "steps_per_print": 2147483647,
    "wall_clock_breakdown": False,
}
ZERO_3 = {
    "stage3_param_persistence_threshold": 10_000,
    "stage3_max_live_parameters": 30_000_000,
    "stage3_prefetch_bucket_size": 30_000_000,
}
TO_CPU = {"device": "cpu", "pin_memory": True}


def engine(device: str = "gpu", name: str = "train", clipping: float | None = 1.0, **params: Any) -> Engine:
    """An engine with the batch of this module."""
    return Engine(name, EngineParams(**params), device, BATCH, clipping)


def test_zero_0_on_the_cpu() -> None:
    """On the CPU nothing overlaps."""
    expected = ALWAYS | {
        "zero_optimization": {"stage": 0, "overlap_comm": False, "contiguous_gradients": True},
        "gradient_clipping": 1.0,
    }
    assert expected == derived_config(engine("cpu", dtype="fp32"))


@pytest.mark.parametrize("dtype", ["bf16", "fp16"])
def test_half_precision_trains_under_stage_1_at_least(dtype: str) -> None:
    """DeepSpeed's wrapper for stage 0 takes a hidden step and leaves fp16 unscaled."""
    assert derived_config(engine(dtype=dtype))["zero_optimization"]["stage"] == 1
    assert derived_config(engine(name="reward", dtype=dtype))["zero_optimization"]["stage"] == 0


def test_zero_2_in_half_precision() -> None:
    """A loss scale of its own for fp16, and the optimiser's state in pinned memory of the CPU."""
    expected = ALWAYS | {
        "zero_optimization": {
            "stage": 2,
            "overlap_comm": True,
            "contiguous_gradients": True,
            "offload_optimizer": TO_CPU,
        },
        "fp16": {"enabled": True, "loss_scale_window": 100},
        "gradient_clipping": 0.5,
    }
    assert expected == derived_config(engine(dtype="fp16", zero_stage=2, offload="optimizer", clipping=0.5))


def test_zero_3_with_everything_offloaded() -> None:
    """Parameters too, and weights that can be saved in one piece; fp32 needs no block."""
    expected = ALWAYS | {
        "zero_optimization": {
            "stage": 3,
            "overlap_comm": True,
            "contiguous_gradients": True,
            "offload_optimizer": TO_CPU,
            "offload_param": TO_CPU,
            **ZERO_3,
            "stage3_gather_16bit_weights_on_model_save": True,
        },
    }
    assert expected == derived_config(engine(dtype="fp32", zero_stage=3, offload="all", clipping=None))


def test_a_frozen_engine() -> None:
    """A model that is only read has nothing to do with gradients, even in a stage that clips them."""
    expected = ALWAYS | {
        "zero_optimization": {"stage": 3, "offload_param": TO_CPU, **ZERO_3},
        "bf16": {"enabled": True},
    }
    assert expected == derived_config(engine(name="reference", zero_stage=3, offload="all"))


def test_the_cpu_offloads_nothing() -> None:
    """There is no other memory, so `offload` of a pipeline for GPUs is no obstacle."""
    plain = derived_config(engine("cpu", zero_stage=3))
    assert plain == derived_config(engine("cpu", zero_stage=3, offload="all"))


def test_the_engines_of_ppo_come_from_engine_init(bench: Bench, all_kinds: str) -> None:
    """Four configs: trained ones with PPO's batch, frozen ones with a batch of ones."""
    overrides = ["ppo.ranks=2", "engines.critic.zero_stage=1", "engines.reward.zero_stage=0"]
    configs = deepspeed_configs(bench.compile(all_kinds, overrides).actions["ppo"])
    words = ("train_batch_size", "train_micro_batch_size_per_gpu", "gradient_accumulation_steps")
    assert {
        "actor": (3, 64, 8, 4),
        "critic": (1, 64, 8, 4),
        "reference": (3, 2, 1, 1),
        "reward": (0, 2, 1, 1),
    } == {
        name: (config["zero_optimization"]["stage"], *(config[word] for word in words))
        for name, config in configs.items()
    }


def test_the_users_mapping_is_merged(bench: Bench, all_kinds: str) -> None:
    """It wins leaf by leaf, and its neighbours stay."""
    zero = "{overlap_comm: false, reduce_bucket_size: 7}"
    given = f"sft.deepspeed={{zero_optimization: {zero}, prescale_gradients: true}}"
    before = deepspeed_configs(bench.compile(all_kinds).actions["sft"])["train"]
    after = deepspeed_configs(bench.compile(all_kinds, [given]).actions["sft"])["train"]
    merged = before["zero_optimization"] | {"overlap_comm": False, "reduce_bucket_size": 7}
    assert before | {"zero_optimization": merged, "prescale_gradients": True} == after


def test_what_a_key_knows(bench: Bench, all_kinds: str) -> None:
    """Derived entries that are not semantic are left out; the user's leaves stand as they are."""
    given = "sft.deepspeed={zero_optimization: {reduce_bucket_size: 7}, fp32_allreduce: true}"
    expected = {
        "zero_optimization": {"reduce_bucket_size": 7},
        "bf16": {"enabled": True},
        "gradient_clipping": 1.0,
        "fp32_allreduce": True,
    }
    assert {"train": expected} == keyed_configs(
        bench.compile(all_kinds, [given]).actions["sft"], {"semantic"}
    )


def test_every_derived_entry_has_an_impact() -> None:
    """The table of impacts and what is derived name the same entries."""
    derived = derived_config(engine(dtype="fp16")) | derived_config(engine(dtype="bf16"))
    assert set(IMPACTS) == set(derived)


@pytest.mark.parametrize("entry", DERIVED)
def test_entries_that_the_spec_has_a_field_for_are_refused(entry: str, bench: Bench, all_kinds: str) -> None:
    """Two places for one value would contradict each other: the message names the field."""
    with pytest.raises(UserError) as caught:
        bench.compile(all_kinds, [f"engines.critic.deepspeed.{entry}=1"])
    (found,) = caught.value.diagnostics
    message = f"engines: `{entry}` of the DeepSpeed config follows from the spec"
    assert (message, DERIVED[entry]) == (found.message, found.hint)
