"""A kind that forgets to type its input."""

from rlhfc.kind import Input, Kind, StageParams, semantic


class FilterParams(StageParams):
    """Rows that pass."""

    rows: Input = semantic()
    level: int = semantic(1, ge=1)


KIND = Kind(name="filter", abi=1, params=FilterParams, inputs={}, outputs={"rows": "data"})
