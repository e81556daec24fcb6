"""Words in a row that training shares with the prompts of an evaluation."""

from __future__ import annotations

import re
from collections.abc import Iterable, Sequence
from typing import Any

from ..common.job import StageError

# A character of Chinese or Japanese counts as a word: these have no spaces between theirs.
_WORD = re.compile(r"[\u3040-\u30ff\u3400-\u9fff]|[^\W\u3040-\u30ff\u3400-\u9fff]+")


def words_of(text: str) -> list[str]:
    """Words of a text, without case and punctuation."""
    return _WORD.findall(text.casefold())


class Watched:
    """Prompts of evaluations, and the runs of ``words`` words that are in them.

    Attributes:
        names: evaluation that each prompt is of; a prompt is known by its index here.
    """

    def __init__(self, words: int) -> None:
        self._words = words
        self._runs: dict[str, list[int]] = {}
        self._wholes: dict[str, list[int]] = {}
        self.names: list[str] = []

    def add(self, evaluation: str, prompt: Sequence[str]) -> None:
        """Watch a prompt, which may be of several texts."""
        number = len(self.names)
        self.names.append(evaluation)
        for text in prompt:
            words = words_of(text)
            if 0 < len(words) < self._words:
                self._wholes.setdefault(" ".join(words), []).append(number)
            for run in self._runs_of(words):
                self._runs.setdefault(run, []).append(number)

    def seen(self, texts: Iterable[str]) -> frozenset[int]:
        """Prompts that share a run of words with one of ``texts``, or all words where they are few."""
        found: set[int] = set()
        for text in texts:
            words = words_of(text)
            if len(words) < self._words:
                found.update(self._wholes.get(" ".join(words), ()))
            for run in self._runs_of(words):
                found.update(self._runs.get(run, ()))
        return frozenset(found)

    def _runs_of(self, words: Sequence[str]) -> Iterable[str]:
        return (" ".join(words[start : start + self._words]) for start in range(len(words) - self._words + 1))


def prompt_texts(value: Any, where: str) -> list[str]:
    """Texts of a benchmark's prompt: a text, or a list of texts or of messages.

    Raises:
        StageError: it is something else.
    """
    if isinstance(value, str):
        return [value]
    if isinstance(value, list):
        said = [turn.get("content") if isinstance(turn, dict) else turn for turn in value]
        if all(isinstance(text, str) for text in said):
            return said
    raise StageError(
        f"{where} is no prompt", "name the column with texts, or with lists of texts or messages"
    )
