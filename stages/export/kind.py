"""Parameters and ports of ``export``."""

from __future__ import annotations

from typing import Literal

from rlhfc.kind import Input, Kind, StageParams, semantic


class ExportParams(StageParams):
    """The aligned model as a folder for others."""

    model: Input = semantic(description="model to export")
    evaluation: Input | None = semantic(None, description="figures for the model card")
    dtype: Literal["fp32", "bf16", "fp16"] = semantic("bf16")


KIND = Kind(
    name="export",
    abi=1,
    params=ExportParams,
    inputs={"model": "model", "evaluation": "evaluation"},
    outputs={"model": "model"},
    libraries=("torch", "transformers", "tokenizers"),
)
