"""A stage kind for the fixture of an old store: it counts, and writes down what it counted."""

from rlhfc.kind import Input, Kind, StageParams, runtime, semantic


class CounterParams(StageParams):
    """What it counts to, and how slowly."""

    data: Input | None = semantic(None)
    steps: int = semantic(1, ge=1)
    step_seconds: float = runtime(0.0)


KIND = Kind(
    name="counter",
    abi=1,
    params=CounterParams,
    inputs={"data": "thing"},
    outputs={"thing": "thing"},
    resumable=True,
)
