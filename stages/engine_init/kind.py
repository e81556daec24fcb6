"""Parameters and ports of ``engine_init``."""

from __future__ import annotations

from rlhfc.kind import EngineParams, FrozenEngineParams, Input, Kind, StageParams, numeric, semantic


class EngineInitParams(StageParams):
    """The start of the four models of PPO."""

    actor_model: Input = semantic(description="SFT model: start of the actor, and the frozen reference")
    reward_model: Input = semantic(description="reward model: frozen, and start of the critic")
    prompts: Input = semantic(description="prompts for the trial rollout and the reward statistics")
    actor: EngineParams = semantic(default_factory=EngineParams, description="the policy that is trained")
    critic: EngineParams = semantic(default_factory=EngineParams, description="the value model")
    reference: FrozenEngineParams = semantic(
        default_factory=FrozenEngineParams, description="the policy that KL is measured against"
    )
    reward: FrozenEngineParams = semantic(
        default_factory=FrozenEngineParams, description="the model that scores responses"
    )
    normalise_reward: bool = semantic(
        True, description="scores of the SFT model's responses get mean 0, deviation 1"
    )
    trial_prompts: int = semantic(64, ge=2, description="prompts answered for the statistics")
    stop_token_ids: list[int] = semantic(
        default_factory=list, description="end a trial response besides end of sequence; as in `ppo`"
    )
    max_response_tokens: int = semantic(256, ge=1, description="length of the trial responses")
    micro_batch_size: int = numeric(16, ge=1, description="prompts answered at a time on one rank")


KIND = Kind(
    name="engine_init",
    abi=1,
    params=EngineInitParams,
    inputs={"actor_model": "model", "reward_model": "reward_model", "prompts": "prompts"},
    outputs={"engines": "engines"},
    libraries=("torch", "deepspeed", "transformers", "tokenizers", "peft"),
    engines={"actor": "actor", "critic": "critic", "reference": "reference", "reward": "reward"},
    exposes_settings=True,
    one_vocabulary=("actor_model", "reward_model", "prompts"),
)
