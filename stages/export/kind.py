"""Parameters and ports of ``export``."""

from __future__ import annotations

from typing import Literal

from rlhfc.kind import Input, Kind, StageParams, semantic


class ExportParams(StageParams):
    """The aligned model as a folder for others."""

    model: Input = semantic(description="model to export")
    evaluation: Input | None = semantic(None, description="figures for the model card")
    dtype: Literal["fp32", "bf16", "fp16"] = semantic("bf16", description="type of the saved weights")
    temperature: float = semantic(1.0, ge=0, description="default of `generate`; 0 is greedy")
    max_response_tokens: int = semantic(256, ge=1, description="default length of `generate`")
    stop_token_ids: list[int] = semantic(
        default_factory=list, description="end a response, besides the tokenizer's end-of-sequence token"
    )


KIND = Kind(
    name="export",
    abi=1,
    params=ExportParams,
    inputs={"model": "model", "evaluation": "evaluation"},
    outputs={"model": "model"},
    libraries=("torch", "transformers", "tokenizers"),
    one_vocabulary=("model",),
)
