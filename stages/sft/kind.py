"""Parameters and ports of ``sft``."""

from __future__ import annotations

from typing import Literal

from pydantic import model_validator

from rlhfc.kind import Input, Kind, TrainParams, semantic


class SftParams(TrainParams):
    """Supervised fine-tuning on demonstrations."""

    model: Input = semantic(description="causal language model to start from")
    data: Input = semantic(description="demonstrations")
    learning_rate: float = semantic(9.65e-6, gt=0, description="peak of the schedule")
    global_batch_size: int = semantic(64, ge=1, description="rows an optimiser step sees, over all ranks")
    loss_on: Literal["completion", "answers", "all"] = semantic(
        "completion",
        description="tokens that are learnt: of the last answer, of all answers in a conversation, all",
    )

    @model_validator(mode="after")
    def _measured(self) -> SftParams:
        if self.best is not None and self.best.by != "eval_loss":
            raise ValueError(f"`best.by: {self.best.by}` is for preferences; sft has `eval_loss`")
        return self


KIND = Kind(
    name="sft",
    abi=1,
    params=SftParams,
    inputs={"model": "model", "data": "demonstrations"},
    outputs={"model": "model"},
    libraries=("torch", "deepspeed", "transformers", "tokenizers", "peft"),
    engines={"train": ""},
    resumable=True,
    one_vocabulary=("data", "model"),
)
