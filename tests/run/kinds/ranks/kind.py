"""A stage kind for tests of real launches: two ranks under `deepspeed`, without torch."""

from __future__ import annotations

from rlhfc.kind import Kind, StageParams, runtime, semantic


class RanksParams(StageParams):
    """How long it takes."""

    steps: int = semantic(1, ge=1)
    step_seconds: float = runtime(0.0)
    own_logs: bool = runtime(False)


KIND = Kind(name="ranks", abi=1, params=RanksParams, inputs={}, outputs={"thing": "thing"}, resumable=True)
