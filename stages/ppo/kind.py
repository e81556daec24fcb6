"""Parameters and ports of ``ppo``."""

from __future__ import annotations

from typing import Literal

from pydantic import model_validator

from rlhfc.kind import Input, Kind, SpecModel, StageParams, numeric, runtime, semantic


class Sampling(SpecModel):
    """How responses are drawn. Log-probabilities are taken at the same temperature."""

    temperature: float = semantic(1.0, gt=0, description="logits are divided by it")
    max_response_tokens: int = semantic(256, ge=1, description="longer responses are cut off")
    stop_token_ids: list[int] = semantic(
        default_factory=list, description="end a response, besides the tokenizer's end-of-sequence token"
    )


class PpoParams(StageParams):
    """PPO (Schulman et al. 2017) with the KL penalty of Ziegler et al. 2019 in the reward."""

    engines: Input = semantic(description="start of actor, critic, reference and reward model")
    prompts: Input = semantic(description="prompts to answer")
    epochs: int = semantic(1, ge=1, description="passes over the prompts")
    max_steps: int | None = semantic(None, ge=1, description="stop after this many rollout steps")
    rollout_batch_size: int = semantic(64, ge=1, description="prompts answered in a step, over all ranks")
    minibatch_size: int | None = semantic(
        None,
        ge=1,
        description="responses an optimiser step sees, over all ranks; default: all of the rollout",
    )
    ppo_epochs: int = semantic(1, ge=1, description="passes over each rollout")
    micro_batch_size: int | None = numeric(
        None,
        ge=1,
        description="responses a forward sees on one rank; default: the largest divisor up to 8",
    )
    generation_batch_size: int | None = numeric(
        None, ge=1, description="responses drawn at a time on one rank; default: the rank's whole share"
    )
    sampling: Sampling = semantic(default_factory=Sampling, description="how responses are drawn")
    actor_learning_rate: float = semantic(9.65e-6, gt=0, description="peak of the schedule")
    critic_learning_rate: float = semantic(5e-6, gt=0, description="peak of the schedule")
    actor_weight_decay: float = semantic(0.0, ge=0, description="of AdamW; not for biases and norms")
    critic_weight_decay: float = semantic(0.0, ge=0, description="of AdamW; not for biases and norms")
    betas: list[float] = semantic([0.9, 0.95], min_length=2, max_length=2, description="of AdamW")
    schedule: Literal[
        "cosine", "linear", "constant", "constant_with_warmup", "cosine_with_restarts", "polynomial"
    ] = semantic("cosine", description="of both learning rates, over all optimiser steps")
    warmup_steps: int = semantic(0, ge=0, description="optimiser steps of linear warm-up")
    gradient_clipping: float = semantic(1.0, ge=0, description="bound of each gradient's L2 norm; 0 for none")
    kl_coef: float = semantic(0.1, ge=0, description="weight of the per-token KL penalty")
    gamma: float = semantic(1.0, gt=0, le=1, description="discount")
    gae_lambda: float = semantic(0.95, ge=0, le=1, description="GAE's λ (Schulman et al. 2016)")
    policy_clip: float = semantic(0.2, gt=0, description="the ratio π/π_old is clipped to 1 ± this")
    value_clip: float = semantic(0.2, gt=0, description="a value may move this far from the old one")
    reward_clip: float = semantic(5.0, gt=0, description="bound of the score, before the KL penalty")
    missing_eos_penalty: float = semantic(
        0.0, ge=0, description="subtracted from the score of a response cut off"
    )
    whiten_advantages: bool = semantic(True, description="over the response tokens of the global batch")
    checkpoint_every: int = runtime(20, ge=1, description="rollout steps between checkpoints")
    keep_checkpoints: int = runtime(2, ge=1, description="newest complete checkpoints that stay")
    sample_every: int = runtime(10, ge=1, description="rollout steps between logged completions")

    @model_validator(mode="after")
    def _minibatches_fill_rollout(self) -> PpoParams:
        if self.minibatch_size is not None and self.rollout_batch_size % self.minibatch_size:
            raise ValueError(
                f"rollout_batch_size {self.rollout_batch_size} is not a multiple "
                f"of minibatch_size {self.minibatch_size}"
            )
        return self


KIND = Kind(
    name="ppo",
    abi=1,
    params=PpoParams,
    inputs={"engines": "engines", "prompts": "prompts"},
    outputs={"actor": "model", "critic": "reward_model"},
    libraries=("torch", "deepspeed", "transformers", "tokenizers", "peft"),
    engines={
        "actor": "engines.actor",
        "critic": "engines.critic",
        "reference": "engines.reference",
        "reward": "engines.reward",
    },
    reads_settings={"engines": ("actor", "critic", "reference", "reward")},
    resumable=True,
    one_vocabulary=("engines", "prompts"),
)
