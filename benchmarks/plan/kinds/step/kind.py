"""A kind for pipelines of any size; nothing is ever launched."""

from __future__ import annotations

from rlhfc.kind import Input, Kind, StageParams, semantic


class StepParams(StageParams):
    """One input, one number."""

    source: Input = semantic()
    rate: float = semantic(0.1)


KIND = Kind("step", 1, StepParams, {"source": "data"}, {"out": "data"})
