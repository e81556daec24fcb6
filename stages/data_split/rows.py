"""A row: messages and answers; and the reasons for which a record is none."""

from __future__ import annotations

import re
import unicodedata
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Literal, get_args

from blake3 import blake3

Message = dict[str, str]
Record = Mapping[str, Any]
Reason = Literal[
    "empty",  # a part without text
    "not_text",  # a part that is neither text nor a list of messages
    "unknown_role",  # a message of a role that is none of system, user, assistant
    "not_a_transcript",  # no `Human:` first, or not ending with an answer
    "prompt_differs",  # chosen and rejected answer different prompts
    "identical",  # chosen and rejected are the same
    "tie",  # two answers with the same score
    "duplicate",  # as an earlier row, but for case and white space
    "no_pair",  # in the reward part, with one answer only
    "special_token",  # text that holds a control token
    "template_refuses",  # roles that the chat template has no place for
    "prompt_too_long",
    "too_long",
    "overlap",  # has been seen in the prompts of an evaluation
    "prompt_elsewhere",  # its prompt belongs to a part that such a row cannot serve
]
REASONS: tuple[Reason, ...] = get_args(Reason)
DIGEST_BYTES = 16
_SPACES = re.compile(r"\s+")
_ROLES = {
    "system": "system",
    "user": "user",
    "human": "user",
    "prompter": "user",
    "assistant": "assistant",
    "gpt": "assistant",
    "bot": "assistant",
    "chatgpt": "assistant",
}


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
    def prompt_key(self) -> bytes:
        """Equal for rows with the same prompt, white space around messages aside."""
        turns = (f"{message['role']}\x1f{message['content'].strip()}" for message in self.messages)
        return _digest("\x1e".join(turns))

    @property
    def content_key(self) -> bytes:
        """Equal for rows that say the same, but for case, white space and compatible characters."""
        answers = [answer or "" for answer in (self.response, self.chosen, self.rejected)]
        turns = [f"{message['role']}\x1f{_plain(message['content'])}" for message in self.messages]
        return _digest("\x1e".join([*map(_plain, answers), *turns]))


class RowError(Exception):
    """The record is no use, for ``reason``."""

    def __init__(self, reason: Reason) -> None:
        super().__init__(reason)
        self.reason: Reason = reason


def checked(row: Row) -> Row:
    """``row``, if its parts have text and its two answers differ.

    Raises:
        RowError: they do not.
    """
    answers = [text for text in (row.response, row.chosen, row.rejected) if text is not None]
    question = row.messages[-1]["content"].strip() if row.messages else ""
    if not question or not all(text.strip() for text in answers):
        raise RowError("empty")
    if row.chosen is not None and row.rejected is not None and row.chosen.strip() == row.rejected.strip():
        raise RowError("identical")
    return row


def asked(text: str) -> tuple[Message, ...]:
    """A prompt of one message."""
    return ({"role": "user", "content": text},)


def text_of(value: Any) -> str:
    """A value as text; numbers are.

    Raises:
        RowError: there is none, or it is a list or mapping.
    """
    if value is None:
        raise RowError("empty")
    if isinstance(value, bool | list | dict):
        raise RowError("not_text")
    return str(value)


def messages_of(value: Any) -> list[Message]:
    """Messages of a list in either dialect: ``role`` and ``content``, or ``from`` and ``value``.

    Raises:
        RowError: it is no such list.
    """
    if not isinstance(value, list):
        raise RowError("not_text")
    if not value:
        raise RowError("empty")
    return [_message(turn) for turn in value]


def answer_of(value: Any) -> str:
    """Text of an answer that is a text, a message, or the last of a list of messages.

    Raises:
        RowError: it is none of these.
    """
    if isinstance(value, list):
        return messages_of(value)[-1]["content"]
    return _message(value)["content"] if isinstance(value, dict) else text_of(value)


def first_of(values: Any, *path: str) -> str:
    """Text of the first item of a list, or of what is at ``path`` in it.

    Raises:
        RowError: there is no item, or no text there.
    """
    if not isinstance(values, list):
        raise RowError("not_text")
    if not values:
        raise RowError("empty")
    return text_of(inside(values[0], *path))


def inside(value: Any, *path: str) -> Any:
    """What is at ``path`` in nested mappings.

    Raises:
        RowError: a step leads nowhere.
    """
    for step in path:
        if not isinstance(value, Mapping):
            raise RowError("not_text")
        value = value.get(step)
    return value


def _message(turn: Any) -> Message:
    if not isinstance(turn, dict):
        raise RowError("not_text")
    role = turn.get("role") or turn.get("from")
    if not role:
        raise RowError("not_text")
    if role not in _ROLES:
        raise RowError("unknown_role")
    said = turn.get("content") if turn.get("content") is not None else turn.get("value")
    return {"role": _ROLES[role], "content": text_of(said)}


def _plain(text: str) -> str:
    return _SPACES.sub(" ", unicodedata.normalize("NFKC", text).casefold()).strip()


def _digest(text: str) -> bytes:
    return blake3(text.encode("utf-8", "surrogatepass")).digest(length=DIGEST_BYTES)


def with_system(system: Any, messages: Sequence[Message]) -> tuple[Message, ...]:
    """``messages`` after a system message, where there is one."""
    first = [{"role": "system", "content": text_of(system)}] if system else []
    return (*first, *messages)
