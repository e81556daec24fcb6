"""Parameters and ports of ``length_filter``."""

from __future__ import annotations

from pydantic import model_validator

from rlhfc.kind import Input, Kind, StageParams, semantic


class LengthFilterParams(StageParams):
    """Which rows stay."""

    rows: Input = semantic(description="one JSON Lines file with a `response` in each row")
    min_words: int = semantic(1, ge=0, description="shortest response that stays")
    max_words: int = semantic(100, ge=1, description="longest response that stays")

    @model_validator(mode="after")
    def _some_length(self) -> LengthFilterParams:
        if self.min_words > self.max_words:
            raise ValueError(f"min_words {self.min_words} is above max_words {self.max_words}")
        return self


KIND = Kind(
    name="length_filter",
    abi=1,
    params=LengthFilterParams,
    inputs={"rows": "data"},
    outputs={"rows": "data"},
)
