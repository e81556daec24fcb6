"""Parameters and ports of ``reward``."""

from __future__ import annotations

from typing import Literal

from pydantic import model_validator

from rlhfc.kind import Input, Kind, TrainParams, semantic


class RewardParams(TrainParams):
    """Bradley-Terry reward model on preference pairs."""

    model: Input = semantic(description="model whose trunk the reward model starts from")
    data: Input = semantic(description="preferences")
    learning_rate: float = semantic(5e-5, gt=0, description="peak of the schedule")
    weight_decay: float = semantic(0.1, ge=0, description="of AdamW; not for biases and norms")
    global_batch_size: int = semantic(64, ge=1, description="pairs an optimiser step sees, over all ranks")
    loss: Literal["bradley_terry", "deepspeed_chat"] = semantic(
        "bradley_terry", description="on the scores of whole responses, or upstream's over all their tokens"
    )
    centering: float = semantic(
        0.0, ge=0, description="weight of (chosen + rejected)² (Eisenstein et al. 2023)"
    )

    @model_validator(mode="after")
    def _centred_scores(self) -> RewardParams:
        if self.centering and self.loss != "bradley_terry":
            raise ValueError(f"`centering` goes with `loss: bradley_terry`, not with `{self.loss}`")
        return self


KIND = Kind(
    name="reward",
    abi=1,
    params=RewardParams,
    inputs={"model": "model", "data": "preferences"},
    outputs={"model": "reward_model"},
    libraries=("torch", "deepspeed", "transformers", "tokenizers", "peft"),
    engines={"train": ""},
    resumable=True,
    one_vocabulary=("data", "model"),
)
