"""A kind whose folder has another name."""

from rlhfc.kind import Kind, StageParams

KIND = Kind(name="filter", abi=1, params=StageParams, inputs={}, outputs={})
