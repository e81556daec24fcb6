"""The data sets that DeepSpeed-Chat knows, by its names for them: how each becomes rows.

The rules are upstream's (``dschat/utils/data/raw_datasets.py``), but for these:

* what upstream writes as ``Human: … Assistant: …`` is a message, which the template frames;
* two WebGPT answers with the same score are no preference: dropped as ``tie`` (upstream: the first wins);
* of WebGPT's answers only ``[1]``, ``[2, 3]`` are citations (upstream removes all that is in brackets or
  parentheses);
* a query without negative passages is a demonstration (upstream: an error for Chinese).
"""

from __future__ import annotations

import re
from collections.abc import Callable
from typing import Any

from .formats import ANSWERS, PAIRS, Format
from .rows import Record, Row, RowError, asked, first_of, inside, text_of
from .transcripts import ONE_LINE, USER_ASSISTANT, prompted_pair

_COLUMNS = ("prompt", "chosen", "rejected")
_CITATION = re.compile(r"\s?\[\d+(?:\s*,\s*\d+)*\]")


def _transcript_pair(record: Record) -> Row:
    return prompted_pair(*(text_of(record[name]) for name in _COLUMNS))


def _plain_pair(record: Record) -> Row:
    chosen, rejected = text_of(record["chosen"]).strip(), text_of(record["rejected"]).strip()
    return Row(asked(text_of(record["prompt"])), chosen, chosen, rejected)


def _either_pair(record: Record) -> Row:
    """A prompt that is a transcript, where it begins like one, or a question."""
    prompt, chosen, rejected = (text_of(record[name]).strip() for name in _COLUMNS)
    if prompt.startswith(f"{ONE_LINE.user}:"):
        return prompted_pair(prompt, chosen, rejected, ONE_LINE)
    return Row(asked(prompt), chosen, chosen, rejected)


def _webgpt(record: Record) -> Row:
    scores = [record["score_0"], record["score_1"]]
    if not all(isinstance(score, int | float) for score in scores):
        raise RowError("not_text")
    if scores[0] == scores[1]:
        raise RowError("tie")
    answers = [_CITATION.sub("", text_of(record[f"answer_{number}"])).strip() for number in (0, 1)]
    chosen, rejected = answers if scores[0] > scores[1] else reversed(answers)
    return Row(asked(text_of(inside(record["question"], "full_text"))), chosen, chosen, rejected)


def _shp(record: Record) -> Row:
    if record["labels"] not in (0, 1):
        raise RowError("not_text")
    answers = [text_of(record[f"human_ref_{letter}"]) for letter in "AB"]
    chosen, rejected = answers if record["labels"] == 1 else reversed(answers)
    return Row(asked(text_of(record["history"])), chosen, chosen, rejected)


def _vicuna(record: Record) -> Row:
    return Row(USER_ASSISTANT.prompt(text_of(record["prompt"])), text_of(record["label"]).strip())


def _passages(record: Record) -> Row:
    positive = first_of(record["positive_passages"], "text")
    question = asked(text_of(record["query"]))
    if not record["negative_passages"]:
        return Row(question, positive)
    return Row(question, positive, positive, first_of(record["negative_passages"], "text"))


def _answered(prompt: Callable[[Record], Any], response: Callable[[Record], Any]) -> Callable[[Record], Row]:
    return lambda record: Row(asked(text_of(prompt(record))), text_of(response(record)))


def _mkqa(language: str) -> Format:
    return Format(
        ("queries", "answers"),
        ANSWERS,
        _answered(
            lambda record: inside(record["queries"], language),
            lambda record: first_of(inside(record["answers"], language), "text"),
        ),
    )


_TRANSCRIPTS = Format(_COLUMNS, PAIRS, _transcript_pair)
_PASSAGES = Format(("query", "positive_passages", "negative_passages"), PAIRS, _passages)

FORMATS = {
    "Dahoas/rm-static": _TRANSCRIPTS,
    "Dahoas/full-hh-rlhf": _TRANSCRIPTS,
    "Dahoas/synthetic-instruct-gptj-pairwise": Format(_COLUMNS, PAIRS, _plain_pair),
    "yitingxie/rlhf-reward-datasets": _TRANSCRIPTS,
    "openai/webgpt_comparisons": Format(
        ("question", "answer_0", "answer_1", "score_0", "score_1"), PAIRS, _webgpt
    ),
    "stanfordnlp/SHP": Format(("history", "human_ref_A", "human_ref_B", "labels"), PAIRS, _shp),
    "pvduy/sharegpt_alpaca_oa_vicuna_format": Format(("prompt", "label"), ANSWERS, _vicuna),
    "wangrui6/Zhihu-KOL": Format(
        ("INSTRUCTION", "RESPONSE"),
        ANSWERS,
        _answered(lambda record: record["INSTRUCTION"], lambda record: record["RESPONSE"]),
    ),
    "Cohere/miracl-zh-queries-22-12": _PASSAGES,
    "Hello-SimpleAI/HC3-Chinese": Format(
        ("question", "human_answers"),
        ANSWERS,
        _answered(lambda record: record["question"], lambda record: first_of(record["human_answers"])),
    ),
    "mkqa-Chinese": _mkqa("zh_cn"),
    "mkqa-Japanese": _mkqa("ja"),
    "Cohere/miracl-ja-queries-22-12": _PASSAGES,
    "lmqg/qg_jaquad": Format(
        ("question", "sentence"),
        ANSWERS,
        _answered(lambda record: record["question"], lambda record: record["sentence"]),
    ),
    "lmqg/qag_jaquad": Format(
        ("questions", "paragraph"),
        ANSWERS,
        _answered(lambda record: first_of(record["questions"]), lambda record: record["paragraph"]),
    ),
    "local/jsonfile": Format(_COLUMNS, PAIRS, _either_pair),
}
