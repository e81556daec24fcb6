"""Sentiment of a story's continuation by VADER (Hutto and Gilbert 2014), from −1 to 1."""

from __future__ import annotations

from functools import cache

from vaderSentiment.vaderSentiment import SentimentIntensityAnalyzer


@cache
def _analyzer() -> SentimentIntensityAnalyzer:
    return SentimentIntensityAnalyzer()


def score(prompt: str, response: str) -> float:
    """VADER's compound score of the continuation alone."""
    return float(_analyzer().polarity_scores(response)["compound"])
