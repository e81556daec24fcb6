"""Parameters and ports of ``data_split``."""

from __future__ import annotations

from typing import Any, Literal

from pydantic import model_validator

from rlhfc.kind import Input, Kind, SpecModel, StageParams, numeric, semantic

LOCAL = "local/jsonfile"
HUB_SETS: dict[str, str | None] = {
    "Dahoas/rm-static": "test",
    "Dahoas/full-hh-rlhf": "test",
    "Dahoas/synthetic-instruct-gptj-pairwise": None,
    "yitingxie/rlhf-reward-datasets": "test",
    "openai/webgpt_comparisons": None,
    "stanfordnlp/SHP": "validation",
    "pvduy/sharegpt_alpaca_oa_vicuna_format": "test",
    "wangrui6/Zhihu-KOL": None,
    "Cohere/miracl-zh-queries-22-12": "dev",
    "Hello-SimpleAI/HC3-Chinese": None,
    "mkqa-Chinese": None,
    "mkqa-Japanese": None,
    "Cohere/miracl-ja-queries-22-12": "dev",
    "lmqg/qg_jaquad": "validation",
    "lmqg/qag_jaquad": "validation",
    LOCAL: "test",
}
"""The data sets that DeepSpeed-Chat knows, by its names for them, and their evaluation splits.

``local/jsonfile`` is a folder with ``train.json`` and ``eval.json``, called ``test`` by `datasets`.
"""


class Columns(SpecModel):
    """Names of the columns that hold each part of a row; unset ones are not read."""

    prompt: str | None = semantic(None, description="the prompt: text, or a list of {role, content}")
    input: str | None = semantic(None, description="second part of the prompt (Alpaca's `input`)")
    system: str | None = semantic(None, description="system message before the prompt")
    response: str | None = semantic(None, description="the wanted response, for demonstrations")
    chosen: str | None = semantic(None, description="the better response of a pair")
    rejected: str | None = semantic(None, description="the worse response of a pair")
    messages: str | None = semantic(None, description="whole conversation: list of {role, content}")

    @property
    def mapped(self) -> dict[str, str]:
        """Part to column, of those that are named."""
        return self.model_dump(exclude_none=True)


class DataSource(SpecModel):
    """One set of rows and how to read it.

    ``format`` says what the columns hold; ``auto`` takes ``columns`` where any is mapped, the data set's
    own format where ``data`` is a hub set that DeepSpeed-Chat knows, and else what the names of the
    columns tell. Where demonstrations are wanted and there is no response of its own, the chosen one serves.
    """

    data: Input = semantic(description="file, or folder of a data set")
    subset: str | None = semantic(None, description="configuration of a hub data set")
    split: str = semantic("train", description="split of a hub data set")
    eval_split: str | None = semantic(
        None, description="its evaluation split; default: that of a known hub set, else taken from `split`"
    )
    format: Literal[
        "auto",
        "columns",
        "transcript",
        "alpaca",
        "sharegpt",
        "trl",
        "Dahoas/rm-static",
        "Dahoas/full-hh-rlhf",
        "Dahoas/synthetic-instruct-gptj-pairwise",
        "yitingxie/rlhf-reward-datasets",
        "openai/webgpt_comparisons",
        "stanfordnlp/SHP",
        "pvduy/sharegpt_alpaca_oa_vicuna_format",
        "wangrui6/Zhihu-KOL",
        "Cohere/miracl-zh-queries-22-12",
        "Hello-SimpleAI/HC3-Chinese",
        "mkqa-Chinese",
        "mkqa-Japanese",
        "Cohere/miracl-ja-queries-22-12",
        "lmqg/qg_jaquad",
        "lmqg/qag_jaquad",
        "local/jsonfile",
    ] = semantic(
        "auto",
        description="`columns` (parts in columns of their own), `transcript` (`Human: … Assistant: …` "
        "dialogues), `alpaca`, `sharegpt`, `trl`, or a set that DeepSpeed-Chat knows, by its name",
    )
    columns: Columns = semantic(default_factory=Columns, description="which column holds which part")
    parts: list[int] | None = semantic(
        None, min_length=3, max_length=3, description="weights of its own; `[1, 0, 0]`: for sft only"
    )
    max_rows: int | None = semantic(None, ge=1, description="first rows after the seeded shuffle")
    weight: float = semantic(
        1.0, gt=0, description="how often each training row is there; 0.5: every second, by chance"
    )

    @model_validator(mode="before")
    @classmethod
    def _known_set(cls, value: Any) -> Any:
        """Fill in what a data set that is known by name implies."""
        if not isinstance(value, dict):
            return value
        data = value.get("data")
        hub = data.get("hub") if isinstance(data, dict) else None
        known = value.get("format", "auto")
        if known == "auto" and not value.get("columns"):
            known = hub
        if not isinstance(known, str) or known not in HUB_SETS:
            return value
        # One file of it, or a copy of unknown make, need not have the split.
        whole = known == LOCAL or (hub is not None and data.get("file") is None)
        return {"eval_split": HUB_SETS[known] if whole else None} | value | {"format": known}

    @model_validator(mode="after")
    def _one_map(self) -> DataSource:
        if self.columns.mapped and self.format not in ("auto", "columns", "transcript"):
            raise ValueError(f"`columns` and `format: {self.format}` both say which column holds what")
        if self.parts is not None:
            check_weights(self.parts)
        return self


class Overlap(SpecModel):
    """Which training rows count as seen in the prompts of an evaluation.

    A row does when a message or an answer of it has ``words`` words in a row of such a prompt (Brown et
    al. 2020, appendix C, with 13), or consists of the same words as a shorter prompt.
    """

    words: int = semantic(13, ge=2, description="words in a row that make an overlap")
    drop: bool = semantic(False, description="leave such training rows out, not only count them")
    against: list[Benchmark] = semantic(
        default_factory=list, description="prompts of further evaluations; the held-out ones always count"
    )


class Benchmark(SpecModel):
    """Prompts of an evaluation that training should not have seen."""

    data: Input = semantic(description="file, or folder of a data set")
    subset: str | None = semantic(None, description="configuration of a hub data set")
    split: str = semantic("train", description="split of a hub data set")
    column: str = semantic(description="column of the prompt: text, or list of texts or messages")


def check_weights(parts: list[int]) -> None:
    """Raise ValueError unless ``parts`` are weights of which one is above zero."""
    if min(parts) < 0 or sum(parts) == 0:
        raise ValueError("`parts` are weights: none below zero and at least one above")


class DataSplitParams(StageParams):
    """Three disjoint parts for SFT, reward model and PPO, and held-out rows of each."""

    tokenizer: Input = semantic(description="model folder or hub id whose tokenizer all stages use")
    sources: list[DataSource] = semantic(min_length=1, description="where the rows come from")
    parts: list[int] = semantic(
        [2, 4, 4], min_length=3, max_length=3, description="weights: sft, reward, prompts"
    )
    eval_fraction: float = semantic(0.1, gt=0, lt=0.5, description="held-out share of every part")
    duplicates: Literal["keep", "drop"] = semantic(
        "keep", description="rows like an earlier one but for case and spaces, and prompts asked twice"
    )
    overlap: Overlap = semantic(default_factory=Overlap, description="training rows that evaluations ask for")
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
        check_weights(self.parts)
        return self


KIND = Kind(
    name="data_split",
    abi=2,
    params=DataSplitParams,
    inputs={"tokenizer": "model", "sources.*.data": "data", "overlap.against.*.data": "data"},
    outputs={
        "sft": "demonstrations",
        "reward": "preferences",
        "prompts": "prompts",
        "heldout": "prompts",
        "report": "data_report",
    },
    libraries=("datasets", "tokenizers", "transformers"),
    columns={"sources.*.data": "sources.*.columns"},
    one_vocabulary=("tokenizer",),
)
