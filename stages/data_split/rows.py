"""From a record of a data set to messages and responses; or the reason why it is no use."""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Literal

from ..common.job import StageError
from .kind import Columns, DataSource

Message = dict[str, str]
Reason = Literal[
    "empty",  # a part without text
    "not_text",  # a part that is neither text nor a list of messages
    "not_a_transcript",  # no `Human:` first, or not ending with an answer
    "prompt_differs",  # chosen and rejected answer different prompts
    "identical",  # chosen and rejected are the same
    "special_token",  # text that holds a control token
    "prompt_too_long",
    "too_long",
    "prompt_elsewhere",  # its prompt belongs to a part that such a row cannot serve
]
_TURN = re.compile(r"(?:^|\n\n)(Human|Assistant):")
_ANSWER = "\n\nAssistant:"
_ROLES = {"Human": "user", "Assistant": "assistant"}


@dataclass(frozen=True)
class Row:
    """A conversation up to the answer, and the answers there are.

    ``response`` is the wanted answer; of a pair without one of its own, the chosen.
    """

    messages: tuple[Message, ...]
    response: str | None = None
    chosen: str | None = None
    rejected: str | None = None

    @property
    def prompt_key(self) -> str:
        """Equal for rows with the same prompt."""
        return "\x1e".join(f"{message['role']}\x1f{message['content'].strip()}" for message in self.messages)


class RowError(Exception):
    """The record is no use, for ``reason``."""

    def __init__(self, reason: Reason) -> None:
        super().__init__(reason)
        self.reason: Reason = reason


def usable_parts(source: DataSource, address: str) -> tuple[str, ...]:
    """Which of ``sft``, ``reward`` and ``prompts`` the rows of ``source`` can feed.

    Raises:
        StageError: its columns make up no row.
    """
    columns = source.columns
    pair = (columns.chosen is not None, columns.rejected is not None)
    if any(pair) and not all(pair):
        raise StageError(
            f"`{address}` maps only one of `chosen` and `rejected`",
            "map both; `response` is for demonstrations",
        )
    if source.format == "transcript":
        has_prompt = all(pair) or columns.response is not None or columns.prompt is not None
    else:
        has_prompt = columns.prompt is not None or columns.messages is not None
    if not has_prompt:
        raise StageError(
            f"`{address}` maps no prompt", "set `columns: {prompt: …}` or `columns: {messages: …}`"
        )
    if all(pair):
        return ("sft", "reward", "prompts")
    answered = columns.response is not None or columns.messages is not None
    return ("sft", "prompts") if answered else ("prompts",)


def parse(source: DataSource, record: Mapping[str, Any]) -> Row:
    """The row that ``record`` holds.

    Raises:
        RowError: it holds none.
    """
    row = (
        _from_transcripts(source.columns, record)
        if source.format == "transcript"
        else _from_columns(source.columns, record)
    )
    answers = [text for text in (row.response, row.chosen, row.rejected) if text is not None]
    if (
        not row.messages
        or not row.messages[-1]["content"].strip()
        or not all(text.strip() for text in answers)
    ):
        raise RowError("empty")
    if row.chosen is not None and row.rejected is not None and row.chosen.strip() == row.rejected.strip():
        raise RowError("identical")
    return row


def _from_columns(columns: Columns, record: Mapping[str, Any]) -> Row:
    messages, response = _prompt(columns, record)
    if columns.response is not None:
        response = _text(record[columns.response])
    if columns.chosen is None or columns.rejected is None:
        return Row(messages, response)
    chosen, rejected = _answer(record[columns.chosen]), _answer(record[columns.rejected])
    return Row(messages, chosen if response is None else response, chosen, rejected)


def _prompt(columns: Columns, record: Mapping[str, Any]) -> tuple[tuple[Message, ...], str | None]:
    """Messages of the prompt, and the answer where the ``messages`` column ends with one."""
    response = None
    if columns.messages is not None:
        messages = _messages(record[columns.messages])
    else:
        value = record[columns.prompt or ""]
        messages = (
            _messages(value) if isinstance(value, list) else [{"role": "user", "content": _text(value)}]
        )
    if columns.messages is not None and messages[-1]["role"] == "assistant":
        response = messages.pop()["content"]
    extra = record[columns.input] if columns.input is not None else None
    if extra and messages:
        messages[-1] = messages[-1] | {"content": f"{messages[-1]['content']}\n\n{_text(extra)}"}
    system = record[columns.system] if columns.system is not None else None
    if system:
        messages.insert(0, {"role": "system", "content": _text(system)})
    return tuple(messages), response


def _answer(value: Any) -> str:
    """Text of an answer that is a string, or the last of a list of messages."""
    return _messages(value)[-1]["content"] if isinstance(value, list) else _text(value)


def _messages(value: Any) -> list[Message]:
    if not isinstance(value, list):
        raise RowError("not_text")
    if not value:
        raise RowError("empty")
    if not all(isinstance(turn, dict) and turn.get("role") for turn in value):
        raise RowError("not_text")
    return [{"role": str(turn["role"]), "content": _text(turn.get("content"))} for turn in value]


def _text(value: Any) -> str:
    if value is None:
        raise RowError("empty")
    if isinstance(value, bool | list | dict):
        raise RowError("not_text")
    return str(value)


def _from_transcripts(columns: Columns, record: Mapping[str, Any]) -> Row:
    if columns.chosen is not None and columns.rejected is not None:
        texts = [_text(record[name]) for name in (columns.chosen, columns.rejected)]
        if columns.prompt is not None:
            asked = _text(record[columns.prompt])
            # Some sets leave the last `Assistant:` to the answers, others end the prompt with it.
            answers = (text.removeprefix(asked).strip() for text in texts)
            chosen, rejected = (text.removeprefix("Assistant:").strip() for text in answers)
            return Row(_asked(_turns(asked)), chosen, chosen, rejected)
        return _pair(*texts)
    if columns.prompt is not None:
        response = _text(record[columns.response]).strip() if columns.response is not None else None
        return Row(_asked(_turns(_text(record[columns.prompt]))), response)
    return Row(*_last_answer(_text(record[columns.response or ""])))


def _pair(chosen: str, rejected: str) -> Row:
    """The shared prompt of two transcripts and their last answers."""
    if chosen.rpartition(_ANSWER)[0].rstrip() != rejected.rpartition(_ANSWER)[0].rstrip():
        raise RowError("prompt_differs")
    (messages, wanted), (_, unwanted) = _last_answer(chosen), _last_answer(rejected)
    return Row(messages, wanted, wanted, unwanted)


def _last_answer(transcript: str) -> tuple[tuple[Message, ...], str]:
    """Turns before the last ``Assistant:``, and what follows it."""
    before, mark, answer = transcript.rpartition(_ANSWER)
    if not mark or _TURN.search(answer):
        raise RowError("not_a_transcript")
    return _asked(_turns(before)), answer.strip()


def _asked(messages: list[Message]) -> tuple[Message, ...]:
    """A prompt's turns, without the ``Assistant:`` that only says who is next."""
    if messages[-1] == {"role": "assistant", "content": ""}:
        messages = messages[:-1]
    if not messages or messages[0]["role"] != "user" or messages[-1]["role"] != "user":
        raise RowError("not_a_transcript")
    return tuple(messages)


def _turns(transcript: str) -> list[Message]:
    """Turns of a ``Human: … Assistant: …`` dialogue, stripped of white space around them.

    Turns of the same speaker in a row become one, a paragraph each: chat templates want turns to
    alternate, and people who copy dialogues leave such marks inside an answer.
    """
    before, *rest = _TURN.split(transcript)
    if before.strip() or not rest:
        raise RowError("not_a_transcript")
    turns: list[Message] = []
    for speaker, said in zip(rest[::2], rest[1::2], strict=True):
        turn = {"role": _ROLES[speaker], "content": said.strip()}
        if turns and turns[-1]["role"] == turn["role"]:
            turn["content"] = f"{turns.pop()['content']}\n\n{turn['content']}".strip()
        turns.append(turn)
    return turns
