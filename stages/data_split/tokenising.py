"""Rows to token ids, in chunks, by one process or several with the same result."""

from __future__ import annotations

import multiprocessing
import os
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Sequence
from concurrent.futures import ProcessPoolExecutor
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from ..common.job import InputPath
from ..common.rendering import Renderer
from ..common.tokenizers import load_tokenizer
from .rows import Reason, Row

CHUNK = 512  # rows; never depends on the number of workers
Segments = tuple[np.ndarray, ...]


@dataclass(frozen=True)
class Rules:
    """What is rendered of a row, and which rows are too long.

    Attributes:
        answers: fields of :class:`Row` to render after the prompt; one that a row lacks is empty.
        max_tokens: of the prompt and any one answer.
        max_prompt_tokens: of the prompt.
        control_tokens: texts that stand for special tokens; an answer with one is dropped.
        control_in_prompts: whether prompts may hold them (a prompt taken as it is may).
    """

    answers: tuple[str, ...]
    max_tokens: int
    max_prompt_tokens: int
    control_tokens: tuple[str, ...]
    control_in_prompts: bool


def control_tokens(renderer: Renderer) -> tuple[str, ...]:
    """Texts that the tokenizer turns into special tokens wherever they stand."""
    return tuple(
        sorted(token.content for token in renderer.tokenizer.added_tokens_decoder.values() if token.special)
    )


def tokenise(renderer: Renderer, rows: Sequence[Row], rules: Rules) -> Iterator[Segments | Reason]:
    """For each row its segments (uint32 arrays: the prompt, then the answers), or why it is dropped."""
    reasons = [_forbidden(row, rules) for row in rows]
    kept = [row for row, reason in zip(rows, reasons, strict=True) if reason is None]
    texts = [[text for name in rules.answers if (text := getattr(row, name)) is not None] for row in kept]
    rendered = iter(renderer.render([row.messages for row in kept], texts))
    for reason in reasons:
        yield reason or _measured(next(rendered), rules)


def _forbidden(row: Row, rules: Rules) -> Reason | None:
    texts = [getattr(row, name) or "" for name in rules.answers]
    if not rules.control_in_prompts:
        texts += [message["content"] for message in row.messages]
    return "special_token" if any(token in text for text in texts for token in rules.control_tokens) else None


def _measured(segments: list[list[int]], rules: Rules) -> Segments | Reason:
    prompt, *answers = segments
    if len(prompt) > rules.max_prompt_tokens:
        return "prompt_too_long"
    if len(prompt) + max(map(len, answers), default=0) > rules.max_tokens:
        return "too_long"
    missing = [[]] * (len(rules.answers) - len(answers))
    return tuple(np.asarray(ids, dtype=np.uint32) for ids in (prompt, *answers, *missing))


class Tokeniser:
    """Tokenises with ``workers`` processes (none beside this one for 1); a context manager.

    Args:
        folder: holds the tokenizer with its template, which the processes load.
    """

    def __init__(self, folder: Path, workers: int) -> None:
        self._renderer = Renderer(load_tokenizer(InputPath(folder)))
        self._pool: ProcessPoolExecutor | None = None
        if workers > 1:
            os.environ["TOKENIZERS_PARALLELISM"] = "false"  # the processes are the parallelism
            context = multiprocessing.get_context("spawn")
            self._pool = ProcessPoolExecutor(workers, context, _load_renderer, (folder,))

    def __enter__(self) -> Tokeniser:
        return self

    def __exit__(self, *_: object) -> None:
        if self._pool is not None:
            self._pool.shutdown(cancel_futures=True)

    def run(
        self, rows: Sequence[Row], rules: Rules, dropped: Counter[str], beat: Callable[[], None]
    ) -> list[Segments]:
        """Segments of the rows that pass ``rules``, in their order; the others are counted in ``dropped``.

        ``beat`` shows that the stage gets on.
        """
        chunks = [rows[start : start + CHUNK] for start in range(0, len(rows), CHUNK)]
        if self._pool is None:
            done: Iterable[Iterable[Segments | Reason]] = (
                tokenise(self._renderer, chunk, rules) for chunk in chunks
            )
        else:
            done = self._pool.map(_tokenise_chunk, chunks, [rules] * len(chunks))
        kept: list[Segments] = []
        for result in (result for chunk in done for result in chunk):
            beat()
            if isinstance(result, str):
                dropped[result] += 1
            else:
                kept.append(result)
        return kept


_renderer: Renderer  # of a worker process, set as it starts


def _load_renderer(folder: Path) -> None:
    global _renderer
    _renderer = Renderer(load_tokenizer(InputPath(folder)))


def _tokenise_chunk(rows: Sequence[Row], rules: Rules) -> list[Segments | Reason]:
    return list(tokenise(_renderer, rows, rules))
