"""A stage kind for tests of the executor: plain Python, told by its parameters how to behave."""

from __future__ import annotations

from typing import Literal

from rlhfc.kind import Input, Kind, StageParams, numeric, runtime, semantic


class ToyParams(StageParams):
    """What it makes and how it behaves."""

    left: Input | None = semantic(None)
    right: Input | None = semantic(None)
    value: int = semantic(0)
    steps: int = semantic(1, ge=1)
    constant: bool = semantic(False, description="make the same bytes whatever `value` is")
    step_seconds: float = runtime(0.0)
    micro_batch_size: int = numeric(8, ge=1)
    fits: int = runtime(8, description="rows that fit into memory")
    first: int = runtime(99, description="attempts up to this number behave so, the others well")
    checkpoint_every: int = runtime(1, ge=1)
    behave: Literal[
        "well", "fail", "lie", "survivor", "escapee", "hang", "deaf", "user_error", "symlink",
        "unlisted", "not_utf8", "short", "torn_tensors", "touch_input",
        "edit_code", "odd_names", "link_input", "family", "tell", "tell_survivor", "tell_all",
        "killed", "silent", "mute", "slow_save", "exits_zero_when_told", "lingers", "shout",
        "full", "lost_peer",
    ] = runtime("well")  # fmt: skip


KIND = Kind(
    name="toy",
    abi=1,
    params=ToyParams,
    inputs={"left": "thing", "right": "thing"},
    outputs={"thing": "thing"},
    resumable=True,
)
