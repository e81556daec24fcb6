"""Dialogues that are one text: ``Human: … Assistant: …``, and the same with other names of the two."""

from __future__ import annotations

import re
from dataclasses import dataclass
from functools import cached_property

from .rows import Message, Row, RowError


@dataclass(frozen=True)
class Dialect:
    """How speakers are marked.

    Attributes:
        user: name of the one who asks.
        assistant: name of the one who answers.
        before: pattern of what stands before a name; the start of the text always will do.
    """

    user: str
    assistant: str
    before: str

    @cached_property
    def _turn(self) -> re.Pattern[str]:
        return re.compile(rf"(?:^|{self.before})({self.user}|{self.assistant}):")

    def turns(self, transcript: str) -> list[Message]:
        """Turns of a dialogue, stripped of white space around them.

        Turns of the same speaker in a row become one, a paragraph each: chat templates want turns to
        alternate, and people who copy dialogues leave such marks inside an answer.

        Raises:
            RowError: it does not begin with a speaker.
        """
        before, *rest = self._turn.split(transcript)
        if before.strip() or not rest:
            raise RowError("not_a_transcript")
        turns: list[Message] = []
        for speaker, said in zip(rest[::2], rest[1::2], strict=True):
            turn = {"role": "user" if speaker == self.user else "assistant", "content": said.strip()}
            if turns and turns[-1]["role"] == turn["role"]:
                turn["content"] = f"{turns.pop()['content']}\n\n{turn['content']}".strip()
            turns.append(turn)
        return turns

    def prompt(self, transcript: str) -> tuple[Message, ...]:
        """Turns of a dialogue that an answer is to follow, whether or not it says who is next.

        Raises:
            RowError: it does not begin and end with the one who asks.
        """
        messages = self.turns(transcript)
        if messages[-1] == {"role": "assistant", "content": ""}:
            messages = messages[:-1]
        if not messages or messages[0]["role"] != "user" or messages[-1]["role"] != "user":
            raise RowError("not_a_transcript")
        return tuple(messages)

    def spoken(self, text: str) -> str:
        """An answer without the name of the one who gives it."""
        return text.strip().removeprefix(f"{self.assistant}:").strip()

    def last_answer(self, transcript: str) -> tuple[tuple[Message, ...], str]:
        """Turns before the last answer, and that answer.

        Raises:
            RowError: it does not end with an answer.
        """
        before, mark, answer = transcript.rpartition(f"\n\n{self.assistant}:")
        if not mark or self._turn.search(answer):
            raise RowError("not_a_transcript")
        return self.prompt(before), answer.strip()


HUMAN_ASSISTANT = Dialect("Human", "Assistant", before=r"\n\n")
ONE_LINE = Dialect("Human", "Assistant", before=r"\s")
USER_ASSISTANT = Dialect("USER", "ASSISTANT", before=r"\s")


def transcript_pair(chosen: str, rejected: str) -> Row:
    """The prompt that two transcripts share, and their last answers.

    Raises:
        RowError: they are no transcripts, or their prompts differ.
    """
    mark = "\n\nAssistant:"
    if chosen.rpartition(mark)[0].rstrip() != rejected.rpartition(mark)[0].rstrip():
        raise RowError("prompt_differs")
    (messages, wanted), (_, unwanted) = map(HUMAN_ASSISTANT.last_answer, (chosen, rejected))
    return Row(messages, wanted, wanted, unwanted)


def prompted_pair(prompt: str, chosen: str, rejected: str, dialect: Dialect = HUMAN_ASSISTANT) -> Row:
    """A pair whose prompt is a transcript of its own; answers may repeat it, or begin with the speaker.

    Raises:
        RowError: the prompt is no transcript.
    """
    better, worse = (dialect.spoken(text.removeprefix(prompt)) for text in (chosen, rejected))
    return Row(dialect.prompt(prompt), better, better, worse)
