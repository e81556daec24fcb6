"""Formats: which columns of a record are read, which parts it can feed, and what row it makes."""

from __future__ import annotations

from collections.abc import Callable, Collection
from dataclasses import dataclass
from typing import Any

from ..common.job import StageError
from .kind import Columns, DataSource
from .rows import Message, Record, Row, RowError, answer_of, asked, checked, messages_of, text_of, with_system
from .transcripts import HUMAN_ASSISTANT, prompted_pair, transcript_pair

PAIRS = ("sft", "reward", "prompts")
ANSWERS = ("sft", "prompts")
PROMPTS = ("prompts",)


@dataclass(frozen=True)
class Format:
    """How records of one form become rows.

    Attributes:
        needs: columns that must be there.
        feeds: of ``sft``, ``reward`` and ``prompts`` those that such rows can serve.
        read: makes the row, or raises :class:`RowError`.
        likes: columns that are read where they are there.
    """

    needs: tuple[str, ...]
    feeds: tuple[str, ...]
    read: Callable[[Record], Row]
    likes: tuple[str, ...] = ()

    def parse(self, record: Record) -> Row:
        """The row that ``record`` holds.

        Raises:
            RowError: it holds none.
        """
        return checked(self.read(record))


def mapped(source: DataSource, address: str) -> Format:
    """The format that a column map makes.

    Raises:
        StageError: it makes no row.
    """
    columns, transcript = source.columns, source.format == "transcript"
    pair = (columns.chosen is not None, columns.rejected is not None)
    if any(pair) and not all(pair):
        raise StageError(
            f"`{address}` maps only one of `chosen` and `rejected`",
            "map both; `response` is for demonstrations",
        )
    if transcript:
        has_prompt = all(pair) or columns.response is not None or columns.prompt is not None
    else:
        has_prompt = columns.prompt is not None or columns.messages is not None
    if not has_prompt:
        raise StageError(
            f"`{address}` maps no prompt", "set `columns: {prompt: …}` or `columns: {messages: …}`"
        )
    answered = columns.response is not None or columns.messages is not None
    feeds = PAIRS if all(pair) else ANSWERS if answered else PROMPTS
    read = _from_transcripts if transcript else _from_columns
    return Format(tuple(dict.fromkeys(columns.mapped.values())), feeds, lambda record: read(columns, record))


def _from_columns(columns: Columns, record: Record) -> Row:
    messages, response = _prompt(columns, record)
    if columns.response is not None:
        response = text_of(record[columns.response])
    if columns.chosen is None or columns.rejected is None:
        return Row(messages, response)
    chosen, rejected = answer_of(record[columns.chosen]), answer_of(record[columns.rejected])
    return Row(messages, chosen if response is None else response, chosen, rejected)


def _prompt(columns: Columns, record: Record) -> tuple[tuple[Message, ...], str | None]:
    """Messages of the prompt, and the answer where the ``messages`` column ends with one."""
    response = None
    if columns.messages is not None:
        messages, response = conversation(record[columns.messages])
    else:
        value = record[columns.prompt or ""]
        messages = messages_of(value) if isinstance(value, list) else list(asked(text_of(value)))
    extra = record[columns.input] if columns.input is not None else None
    if messages:
        messages[-1] = joined(messages[-1], extra)
    return with_system(record[columns.system] if columns.system is not None else None, messages), response


def joined(message: Message, extra: Any) -> Message:
    """``message`` with a further paragraph, where there is one."""
    return message | {"content": f"{message['content']}\n\n{text_of(extra)}"} if extra else message


def conversation(value: Any) -> tuple[list[Message], str | None]:
    """Messages up to the answer that a conversation ends with, and this answer.

    Raises:
        RowError: it is no list of messages.
    """
    messages = messages_of(value)
    response = messages.pop()["content"] if messages[-1]["role"] == "assistant" else None
    return messages, response


def _from_transcripts(columns: Columns, record: Record) -> Row:
    if columns.chosen is not None and columns.rejected is not None:
        chosen, rejected = (text_of(record[name]) for name in (columns.chosen, columns.rejected))
        if columns.prompt is not None:
            return prompted_pair(text_of(record[columns.prompt]), chosen, rejected)
        return transcript_pair(chosen, rejected)
    if columns.prompt is not None:
        response = text_of(record[columns.response]).strip() if columns.response is not None else None
        return Row(HUMAN_ASSISTANT.prompt(text_of(record[columns.prompt])), response)
    return Row(*HUMAN_ASSISTANT.last_answer(text_of(record[columns.response or ""])))


def alpaca(found: Collection[str]) -> Format | None:
    """``instruction``, ``input``, and ``output`` or a pair; ``system`` and ``history`` where they are."""
    pair = {"chosen", "rejected"} <= set(found)
    if "instruction" not in found or not (pair or "output" in found):
        return None

    def read(record: Record) -> Row:
        question = joined(asked(text_of(record["instruction"]))[0], record.get("input"))
        messages = with_system(record.get("system"), [*_history(record.get("history")), question])
        response = text_of(record["output"]) if "output" in found else None
        if not pair:
            return Row(messages, response)
        chosen, rejected = answer_of(record["chosen"]), answer_of(record["rejected"])
        return Row(messages, chosen if response is None else response, chosen, rejected)

    answers = [name for name in ("output", "chosen", "rejected") if name in found]
    return Format(
        ("instruction", *answers), PAIRS if pair else ANSWERS, read, likes=("input", "system", "history")
    )


def _history(value: Any) -> list[Message]:
    """Earlier turns: pairs of question and answer."""
    messages = []
    for turn in value or []:
        if not isinstance(turn, list) or len(turn) != 2:
            raise RowError("not_text")
        messages += [
            {"role": role, "content": text_of(said)}
            for role, said in zip(("user", "assistant"), turn, strict=True)
        ]
    return messages


def sharegpt(found: Collection[str]) -> Format | None:
    """``conversations`` that end with an answer, or with a question and its ``chosen`` and ``rejected``."""
    if "conversations" not in found:
        return None
    pair = {"chosen", "rejected"} <= set(found)

    def read(record: Record) -> Row:
        talk, response = conversation(record["conversations"])
        messages = with_system(record.get("system"), talk)
        if not pair:
            return Row(messages, response)
        chosen, rejected = answer_of(record["chosen"]), answer_of(record["rejected"])
        return Row(messages, chosen, chosen, rejected)

    needs = ("conversations", *(("chosen", "rejected") if pair else ()))
    return Format(needs, PAIRS if pair else ANSWERS, read, likes=("system",))


def trl(found: Collection[str]) -> Format | None:
    """TRL's standard and conversational forms, by the columns that are there."""
    columns = set(found)
    if {"chosen", "rejected"} <= columns and "prompt" not in columns:
        return Format(("chosen", "rejected"), PAIRS, _implicit_prompt)
    for mapped, feeds in (
        (Columns(prompt="prompt", chosen="chosen", rejected="rejected"), PAIRS),
        (Columns(messages="messages"), ANSWERS),
        (Columns(prompt="prompt", response="completion"), ANSWERS),
        (Columns(prompt="prompt"), PROMPTS),
    ):
        if set(mapped.mapped.values()) <= columns:
            return Format(tuple(mapped.mapped.values()), feeds, _completed(mapped))
    return None


def _completed(columns: Columns) -> Callable[[Record], Row]:
    def read(record: Record) -> Row:
        if columns.response is None:
            return _from_columns(columns, record)
        messages, _ = _prompt(columns, record)
        return Row(messages, answer_of(record[columns.response]))

    return read


def _implicit_prompt(record: Record) -> Row:
    """A pair whose answers repeat their prompt: conversations but for the last message, or transcripts."""
    chosen, rejected = record["chosen"], record["rejected"]
    if not isinstance(chosen, list):
        return transcript_pair(text_of(chosen), text_of(rejected))
    (messages, wanted), (others, unwanted) = conversation(chosen), conversation(rejected)
    if messages != others:
        raise RowError("prompt_differs")
    if wanted is None or unwanted is None:
        raise RowError("empty")
    return Row(tuple(messages), wanted, wanted, unwanted)
