"""Actor, critic, reference and reward model, each with an engine of its own."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from torch import nn

from rlhfc.kind import EngineParams, FrozenEngineParams

from .engines import Optimisation, frozen_module, trainable_engine
from .job import InputPath
from .models import load_causal_lm, load_reward_model, prepare
from .modules import Policy, Scorer
from .ranks import Ranks, seed_everything

ROLES = ("actor", "critic", "reference", "reward")


@dataclass(frozen=True)
class FourModels:
    """The models of PPO.

    Attributes:
        actor: trainable engine around a :class:`Policy`.
        critic: trainable engine around a :class:`Scorer`; its scores are values.
        reference: frozen :class:`Policy`.
        reward: frozen :class:`Scorer`.
        sharded_generation: whether every rank must take part in every forward of the actor.
    """

    actor: Any
    critic: Any
    reference: nn.Module
    reward: nn.Module
    sharded_generation: bool

    @property
    def trained(self) -> dict[str, Any]:
        """The engines whose state a checkpoint holds."""
        return {"actor": self.actor, "critic": self.critic}

    def evaluating(self) -> None:
        """Dropout off: log-probabilities and values are those of the model, not of a random part of it."""
        self.actor.eval()
        self.critic.eval()

    def training(self) -> None:
        """Dropout as the models are configured, for the update."""
        self.actor.train()
        self.critic.train()


def load_four(
    sft: InputPath,
    reward: InputPath,
    *,
    settings: Mapping[str, EngineParams | FrozenEngineParams],
    deepspeed: Mapping[str, dict[str, Any]],
    optimisation: Mapping[str, Optimisation],
    ranks: Ranks,
    seed: int,
    normalisation: tuple[float, float] = (0.0, 1.0),
) -> FourModels:
    """Load the four: actor and reference from the SFT model, critic and reward model from the other.

    Args:
        sft: folder of the SFT model.
        reward: folder of the reward model.
        settings: precision, adapters and so on of each role.
        deepspeed: DeepSpeed config of each role.
        optimisation: of ``actor`` and ``critic``.
        ranks: this process among its equals.
        seed: of the adapters' start, and of dropout after it.
        normalisation: mean and deviation of the reward model's scores, for the critic.
    """

    def load(role: str) -> nn.Module:
        how = settings[role]
        loader, source, wrap = (
            (load_causal_lm, sft, Policy)
            if role in ("actor", "reference")
            else (load_reward_model, reward, Scorer)
        )
        model = loader(source, dtype=how.dtype, deepspeed_config=deepspeed[role], dropout=how.dropout)
        if role in optimisation:
            prepare(model, how)
        return Scorer(model, *normalisation) if role == "critic" else wrap(model)

    seed_everything(seed)  # adapters start equal on every rank
    four = FourModels(
        actor=trainable_engine(load("actor"), deepspeed["actor"], optimisation["actor"]),
        critic=trainable_engine(load("critic"), deepspeed["critic"], optimisation["critic"]),
        reference=frozen_module(load("reference"), deepspeed["reference"], ranks.device),
        reward=frozen_module(load("reward"), deepspeed["reward"], ranks.device),
        sharded_generation=settings["actor"].zero_stage == 3,
    )
    seed_everything(seed + ranks.rank)  # dropout does not
    return four
