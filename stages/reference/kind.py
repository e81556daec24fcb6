"""Parameters and ports of ``reference``."""

from __future__ import annotations

from rlhfc.kind import FrozenEngineParams, Input, Kind, StageParams, numeric, runtime, semantic


class ReferenceParams(StageParams, FrozenEngineParams):
    """Log-probabilities that a frozen model gives to both sides of preferences."""

    model: Input = semantic(description="the reference: usually the model that `dpo` starts from")
    data: Input = semantic(description="preferences")
    seed: int = runtime(1234, ge=0, lt=2**32, description="of nothing here: nothing is drawn")
    micro_batch_size: int = numeric(8, ge=1, description="pairs a forward sees on one rank")


KIND = Kind(
    name="reference",
    abi=1,
    params=ReferenceParams,
    inputs={"model": "model", "data": "preferences"},
    outputs={"log_probs": "log_probs"},
    libraries=("torch", "deepspeed", "transformers", "tokenizers"),
    engines={"reference": ""},
    one_vocabulary=("data", "model"),
)
