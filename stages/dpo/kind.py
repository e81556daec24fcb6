"""Parameters and ports of ``dpo``."""

from __future__ import annotations

from typing import Literal

from pydantic import model_validator

from rlhfc.kind import Input, Kind, TrainParams, semantic


class DpoParams(TrainParams):
    """Direct preference optimisation against log-probabilities that a reference stage has made."""

    model: Input = semantic(description="causal language model to start from")
    data: Input = semantic(description="preferences")
    reference: Input = semantic(description="log-probabilities of the same preferences, of `reference`")
    learning_rate: float = semantic(1e-6, gt=0, description="peak of the schedule")
    global_batch_size: int = semantic(64, ge=1, description="pairs an optimiser step sees, over all ranks")
    loss: Literal["sigmoid", "ipo"] = semantic(
        "sigmoid", description="DPO (Rafailov et al. 2023) or IPO (Azar et al. 2023)"
    )
    beta: float = semantic(0.1, gt=0, description="how dear it is to move away from the reference")
    label_smoothing: float = semantic(
        0.0, ge=0, lt=0.5, description="share of pairs taken to be the wrong way round (`sigmoid` only)"
    )

    @model_validator(mode="after")
    def _smooth_sigmoid(self) -> DpoParams:
        if self.label_smoothing and self.loss != "sigmoid":
            raise ValueError(f"`label_smoothing` goes with `loss: sigmoid`, not with `{self.loss}`")
        return self


KIND = Kind(
    name="dpo",
    abi=1,
    params=DpoParams,
    inputs={"model": "model", "data": "preferences", "reference": "log_probs"},
    outputs={"model": "model"},
    libraries=("torch", "deepspeed", "transformers", "tokenizers", "peft"),
    engines={"train": ""},
    resumable=True,
    one_vocabulary=("data", "model"),
)
