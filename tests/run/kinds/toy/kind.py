"""A stage kind for tests of the executor: plain Python, told by its parameters how to behave."""

from __future__ import annotations

from typing import Literal

from rlhfc.kind import Input, Kind, StageParams, runtime, semantic


class ToyParams(StageParams):
    """What it makes and how it behaves."""

    left: Input | None = semantic(None)
    right: Input | None = semantic(None)
    value: int = semantic(0)
    steps: int = semantic(1, ge=1)
    constant: bool = semantic(False, description="make the same bytes whatever `value` is")
    step_seconds: float = runtime(0.0)
    behave: Literal[
        "well", "fail", "lie", "survivor", "escapee", "hang", "deaf", "user_error", "symlink",
        "unlisted", "not_utf8", "short", "torn_tensors", "touch_input",
        "edit_code", "odd_names", "link_input", "family", "tell", "tell_survivor", "tell_all",
    ] = runtime("well")  # fmt: skip


KIND = Kind(
    name="toy",
    abi=1,
    params=ToyParams,
    inputs={"left": "thing", "right": "thing"},
    outputs={"thing": "thing"},
    resumable=True,
)
