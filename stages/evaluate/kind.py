"""Parameters and ports of ``evaluate``."""

from __future__ import annotations

from typing import Literal

from rlhfc.kind import Input, Kind, SpecModel, StageParams, numeric, semantic


class Judge(SpecModel):
    """A judge that training never saw: a Python file with ``score(prompt, response) -> float``."""

    name: str = semantic(pattern=r"^[a-z][a-z0-9_]*$", description="how figures call it")
    code: Input = semantic(description="the Python file; it runs inside the stage")


class EvaluateParams(StageParams):
    """Candidate against baseline on held-out prompts."""

    baseline: Input = semantic(description="usually the SFT model")
    candidate: Input = semantic(description="usually the aligned model")
    reward_model: Input = semantic(description="scores both")
    prompts: Input = semantic(description="held-out prompts")
    judges: list[Judge] = semantic(default_factory=list, description="judges besides the reward model")
    max_prompts: int = semantic(256, ge=2, description="the first so many held-out prompts")
    temperature: float = semantic(1.0, ge=0, description="0 is greedy")
    max_response_tokens: int = semantic(256, ge=1, description="longer responses are cut off")
    stop_token_ids: list[int] = semantic(
        default_factory=list, description="end a response, besides the tokenizer's end-of-sequence token"
    )
    confidence: float = semantic(0.95, gt=0.5, lt=1, description="level of every interval")
    dtype: Literal["fp32", "bf16", "fp16"] = semantic("bf16", description="type of the three models")
    micro_batch_size: int = numeric(16, ge=1, description="prompts answered at a time on one rank")


KIND = Kind(
    name="evaluate",
    abi=1,
    params=EvaluateParams,
    inputs={
        "baseline": "model",
        "candidate": "model",
        "reward_model": "reward_model",
        "prompts": "prompts",
        "judges.*.code": "code",
    },
    outputs={"report": "evaluation"},
    libraries=("torch", "deepspeed", "transformers", "tokenizers", "peft"),
    one_vocabulary=("baseline", "candidate", "reward_model", "prompts"),
)
