"""A stage kind for the torture tests: quick, deterministic, with checkpoints."""

from __future__ import annotations

from rlhfc.kind import Input, Kind, StageParams, runtime, semantic


class StepParams(StageParams):
    """What it makes, and from what."""

    left: Input | None = semantic(None)
    right: Input | None = semantic(None)
    data: Input | None = semantic(None)
    value: int = semantic(0)
    steps: int = semantic(1, ge=1)
    step_seconds: float = runtime(0.0)


KIND = Kind(
    name="step",
    abi=1,
    params=StepParams,
    inputs={"left": "thing", "right": "thing", "data": "data"},
    outputs={"thing": "thing"},
    resumable=True,
)
