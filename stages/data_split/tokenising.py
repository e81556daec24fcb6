"""Rows to token ids, in chunks, by one process or several with the same result."""

from __future__ import annotations

import multiprocessing
import os
from collections import deque
from collections.abc import Iterable, Iterator, Sequence
from concurrent.futures import Future, ProcessPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import NamedTuple

import numpy as np

from ..common.job import InputPath, StageError
from ..common.rendering import Renderer
from ..common.tokenizers import load_tokenizer
from .overlap import Watched
from .rows import Reason, Row

CHUNK = 512  # rows; never depends on the number of workers
AHEAD = 2  # chunks that wait for each worker
Segments = tuple[np.ndarray, ...]


@dataclass(frozen=True)
class Rules:
    """What is rendered of a row, and which rows are left out.

    Attributes:
        answers: fields of :class:`Row` to render after the prompt; one that a row lacks is empty.
        max_tokens: of the prompt and any one answer.
        max_prompt_tokens: of the prompt.
        control_tokens: texts that stand for special tokens; an answer with one is dropped.
        control_in_prompts: whether prompts may hold them (a prompt taken as it is may).
        earlier: whether a last segment says where in the prompt earlier answers are.
        screened: whether rows are compared with the prompts that are watched.
        drop_seen: whether those that share words with one are dropped.
    """

    answers: tuple[str, ...]
    max_tokens: int
    max_prompt_tokens: int
    control_tokens: tuple[str, ...]
    control_in_prompts: bool
    earlier: bool = False
    screened: bool = False
    drop_seen: bool = False


class Outcome(NamedTuple):
    """Segments of a row (uint32 arrays: the prompt, then the answers), or why it is dropped.

    ``seen`` are the watched prompts that it shares words with.
    """

    segments: Segments | None
    reason: Reason | None
    seen: frozenset[int] = frozenset()


def control_tokens(renderer: Renderer) -> tuple[str, ...]:
    """Texts that the tokenizer turns into special tokens wherever they stand."""
    return tuple(
        sorted(token.content for token in renderer.tokenizer.added_tokens_decoder.values() if token.special)
    )


def tokenise(renderer: Renderer, rows: Sequence[Row], rules: Rules, watched: Watched) -> list[Outcome]:
    """What comes of each row."""
    reasons = [_forbidden(row, rules) for row in rows]
    kept = [row for row, reason in zip(rows, reasons, strict=True) if reason is None]
    rendered = iter(_render(renderer, kept, rules))
    outcomes = []
    for row, forbidden in zip(rows, reasons, strict=True):
        found = None if forbidden else next(rendered)
        reason = forbidden or _fault(found, rules)
        seen = watched.seen(_texts(row, rules)) if rules.screened and reason is None else frozenset()
        if seen and rules.drop_seen:
            reason = "overlap"
        segments = None
        if found is not None and reason is None:
            earlier = [renderer.earlier_answers(row.messages, found[0])] if rules.earlier else []
            segments = _arrays(found, rules, earlier)
        outcomes.append(Outcome(segments, reason, seen))
    return outcomes


def _render(renderer: Renderer, rows: Sequence[Row], rules: Rules) -> list[list[list[int]] | None]:
    """Ids of each row; None for one whose conversation the chat template refuses."""
    answers = [[text for name in rules.answers if (text := getattr(row, name)) is not None] for row in rows]
    try:
        return list(renderer.render([row.messages for row in rows], answers))
    except StageError:
        if len(rows) == 1:
            return [None]
    return [one for row in rows for one in _render(renderer, [row], rules)]


def _texts(row: Row, rules: Rules) -> list[str]:
    answers = [getattr(row, name) for name in rules.answers]
    return [message["content"] for message in row.messages] + [text for text in answers if text is not None]


def _forbidden(row: Row, rules: Rules) -> Reason | None:
    if "chosen" in rules.answers and row.chosen is None:
        return "no_pair"
    texts = [getattr(row, name) or "" for name in rules.answers]
    if not rules.control_in_prompts:
        texts += [message["content"] for message in row.messages]
    return "special_token" if any(token in text for text in texts for token in rules.control_tokens) else None


def _fault(segments: list[list[int]] | None, rules: Rules) -> Reason | None:
    if segments is None:
        return "template_refuses"
    prompt, *answers = segments
    if len(prompt) > rules.max_prompt_tokens:
        return "prompt_too_long"
    return "too_long" if len(prompt) + max(map(len, answers), default=0) > rules.max_tokens else None


def _arrays(segments: list[list[int]], rules: Rules, earlier: list[list[int]]) -> Segments:
    missing: list[list[int]] = [[]] * (1 + len(rules.answers) - len(segments))
    return tuple(np.asarray(ids, dtype=np.uint32) for ids in (*segments, *missing, *earlier))


class Tokeniser:
    """Tokenises with ``workers`` processes (none beside this one for 1); a context manager.

    Args:
        folder: holds the tokenizer with its template, which the processes load.
        workers: processes.
        watched: prompts that screened rows are compared with.
    """

    def __init__(self, folder: Path, workers: int, watched: Watched) -> None:
        self._workers, self._watched = workers, watched
        self._renderer = Renderer(load_tokenizer(InputPath(folder)))
        self._pool: ProcessPoolExecutor | None = None
        if workers > 1:
            os.environ["TOKENIZERS_PARALLELISM"] = "false"  # the processes are the parallelism
            context = multiprocessing.get_context("spawn")
            self._pool = ProcessPoolExecutor(workers, context, _start_worker, (folder, watched))

    def __enter__(self) -> Tokeniser:
        return self

    def __exit__(self, *_: object) -> None:
        if self._pool is not None:
            self._pool.shutdown(cancel_futures=True)

    def run(self, chunks: Iterable[Sequence[Row]], rules: Rules) -> Iterator[list[Outcome]]:
        """What comes of the rows of each chunk; few chunks are in memory at any time."""
        if self._pool is None:
            yield from (tokenise(self._renderer, chunk, rules, self._watched) for chunk in chunks)
            return
        waiting: deque[Future[list[Outcome]]] = deque()
        for chunk in chunks:
            waiting.append(self._pool.submit(_tokenise_chunk, chunk, rules))
            if len(waiting) > AHEAD * self._workers:
                yield waiting.popleft().result()
        while waiting:
            yield waiting.popleft().result()


_renderer: Renderer  # of a worker process, set as it starts
_watched: Watched


def _start_worker(folder: Path, watched: Watched) -> None:
    global _renderer, _watched
    _renderer, _watched = Renderer(load_tokenizer(InputPath(folder))), watched


def _tokenise_chunk(rows: Sequence[Row], rules: Rules) -> list[Outcome]:
    return tokenise(_renderer, rows, rules, _watched)
