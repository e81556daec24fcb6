"""Parameters and ports of ``data_split``."""

from __future__ import annotations

from typing import Literal

from pydantic import model_validator

from rlhfc.kind import Input, Kind, SpecModel, StageParams, numeric, semantic


class Columns(SpecModel):
    """Names of the columns that hold each part of a row; unset ones are not read."""

    prompt: str | None = semantic(None, description="the prompt: text, or a list of {role, content}")
    input: str | None = semantic(None, description="second part of the prompt (Alpaca's `input`)")
    system: str | None = semantic(None, description="system message before the prompt")
    response: str | None = semantic(None, description="the wanted response, for demonstrations")
    chosen: str | None = semantic(None, description="the better response of a pair")
    rejected: str | None = semantic(None, description="the worse response of a pair")
    messages: str | None = semantic(None, description="whole conversation: list of {role, content}")


class DataSource(SpecModel):
    """One set of rows and how to read it.

    ``format`` is ``columns`` (parts in columns of their own) or ``transcript``: the columns hold
    ``Human: … Assistant: …`` dialogues; with ``chosen`` and ``rejected`` alone, the prompt is what
    both share up to the last ``Assistant:``. Where demonstrations are wanted and ``response`` is
    not mapped, the chosen response serves.
    """

    data: Input = semantic(description="file, or folder of a data set")
    subset: str | None = semantic(None, description="configuration of a hub data set")
    split: str = semantic("train", description="split of a hub data set")
    eval_split: str | None = semantic(None, description="its evaluation split; default: taken from `split`")
    format: Literal["columns", "transcript"] = semantic(
        "columns", description="parts in columns of their own, or `Human: … Assistant: …` dialogues"
    )
    columns: Columns = semantic(default_factory=Columns, description="which column holds which part")
    max_rows: int | None = semantic(None, ge=1, description="first rows after the seeded shuffle")


class DataSplitParams(StageParams):
    """Three disjoint parts for SFT, reward model and PPO, and held-out rows of each."""

    tokenizer: Input = semantic(description="model folder or hub id whose tokenizer all stages use")
    sources: list[DataSource] = semantic(min_length=1, description="where the rows come from")
    parts: list[int] = semantic(
        [2, 4, 4], min_length=3, max_length=3, description="weights: sft, reward, prompts"
    )
    eval_fraction: float = semantic(0.1, gt=0, lt=0.5, description="held-out share of every part")
    template: str = semantic(
        "auto",
        description="`auto` (the tokenizer's chat template, else `human_assistant`), `plain`, "
        "`human_assistant`, or a Jinja chat template written out",
    )
    max_tokens: int = semantic(
        512, ge=8, description="prompt and response; longer rows are dropped and counted"
    )
    max_prompt_tokens: int = semantic(256, ge=1, description="longer prompts are dropped and counted")
    workers: int = numeric(1, ge=1, description="processes that tokenise")

    @model_validator(mode="after")
    def _some_part(self) -> DataSplitParams:
        if min(self.parts) < 0 or sum(self.parts) == 0:
            raise ValueError("`parts` are weights: none below zero and at least one above")
        return self


KIND = Kind(
    name="data_split",
    abi=1,
    params=DataSplitParams,
    inputs={"tokenizer": "model", "sources.*.data": "data"},
    outputs={"sft": "demonstrations", "reward": "preferences", "prompts": "prompts", "heldout": "prompts"},
    libraries=("datasets", "tokenizers", "transformers"),
    columns={"sources.*.data": "sources.*.columns"},
    one_vocabulary=("tokenizer",),
)
