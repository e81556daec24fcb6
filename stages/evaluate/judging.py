"""What the answers are worth: judges, win rates with intervals, means of each side."""

from __future__ import annotations

import importlib.util
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from itertools import pairwise
from pathlib import Path

import numpy as np

from ..common.job import StageError
from ..common.rollout import Response
from ..common.statistics import wilson_interval

Judge = Callable[[str, str], float]


@dataclass
class Answer:
    """One side's answer to one prompt.

    Attributes:
        log_prob: Σ log p of its tokens by the side that drew it.
        other_log_prob: the same by the other side.
        scores: by judge.
    """

    response: Response
    log_prob: float = 0.0
    other_log_prob: float = 0.0
    text: str = ""
    scores: dict[str, float] = field(default_factory=dict)


def load_judge(name: str, path: Path) -> Judge:
    """The function ``score`` of a judge's file.

    Raises:
        StageError: the file cannot be run or has no such function.
    """
    found = importlib.util.spec_from_file_location(f"rlhfc_judge_{name}", path)
    assert found is not None
    assert found.loader is not None
    module = importlib.util.module_from_spec(found)
    try:
        found.loader.exec_module(module)
    except Exception as error:
        raise StageError(
            f"judge `{name}`: {path} fails: {error!r}", "run the file with Python to see where"
        ) from error
    score = getattr(module, "score", None)
    if not callable(score):
        raise StageError(
            f"judge `{name}`: {path} has no function `score`",
            "define `score(prompt: str, response: str) -> float`",
        )
    return score


def win_rate(baseline: Sequence[float], candidate: Sequence[float], confidence: float) -> dict[str, float]:
    """Wins of the candidate prompt by prompt, ties as half, with a Wilson interval."""
    wins = sum(c > b for b, c in zip(baseline, candidate, strict=True))
    losses = sum(c < b for b, c in zip(baseline, candidate, strict=True))
    prompts = len(baseline)
    ties = prompts - wins - losses
    low, high = wilson_interval(wins + ties / 2, prompts, confidence)
    share = (wins + ties / 2) / prompts
    counts = {"wins": wins, "losses": losses, "ties": ties, "prompts": prompts}
    return {"win": share, "low": low, "high": high, **counts}


def distinct_bigrams(texts: Sequence[str]) -> float:
    """Different word pairs over all word pairs: near 0 when answers repeat themselves or each other."""
    pairs = [pair for text in texts for pair in pairwise(text.split())]
    return len(set(pairs)) / len(pairs) if pairs else 0.0


def side_metrics(answers: Sequence[Answer]) -> dict[str, float]:
    """Means over one side's answers."""
    names = answers[0].scores
    means = {f"{name}_score": float(np.mean([a.scores[name] for a in answers])) for name in names}
    return means | {
        "response_length": float(np.mean([len(a.response.ids) for a in answers])),
        "stopped_share": float(np.mean([a.response.stopped for a in answers])),
        "distinct_bigrams": distinct_bigrams([a.text for a in answers]),
        # Σ log p − log p_other, averaged over own samples: an unbiased estimate of KL(this ‖ other).
        "kl_to_other": float(np.mean([a.log_prob - a.other_log_prob for a in answers])),
    }
