"""Intervals for shares, calibration, correlation."""

from __future__ import annotations

import math
from collections.abc import Iterator
from dataclasses import dataclass
from statistics import NormalDist

import numpy as np


def wilson_interval(successes: float, trials: float, confidence: float = 0.95) -> tuple[float, float]:
    """Wilson score interval of a share (Wilson 1927).

    It stays inside [0, 1] and holds its level for shares near 0 and 1. Ties may enter as half a
    success: that can only widen the interval in truth, so the level is kept.

    Args:
        successes: count, halves allowed.
        trials: count; 0 gives (0, 1).
        confidence: level of the interval.
    """
    if not trials:
        return 0.0, 1.0
    z = NormalDist().inv_cdf(0.5 + confidence / 2)
    share = successes / trials
    centre = share + z * z / (2 * trials)
    spread = z * math.sqrt(share * (1 - share) / trials + z * z / (4 * trials * trials))
    scale = 1 + z * z / trials
    return max(0.0, (centre - spread) / scale), min(1.0, (centre + spread) / scale)


@dataclass(frozen=True)
class Bin:
    """Predictions of like confidence: mean confidence, share that came true, and how many they are."""

    confidence: float
    accuracy: float
    count: int


def calibration(differences: np.ndarray, bins: int = 10) -> list[Bin]:
    """How often the side that Bradley-Terry prefers is the chosen one, by how sure it is of it.

    Confidence is σ(|difference|), from one half to one, cut into bins of equal width; empty ones are left
    out. A tie is right half of the time.

    Args:
        differences: (pairs,) chosen − rejected, as logits.
        bins: how many.
    """
    confidence = 1 / (1 + np.exp(-np.abs(differences.astype(np.float64))))
    right = np.where(differences == 0, 0.5, differences > 0)
    places = np.minimum(((confidence - 0.5) * 2 * bins).astype(int), bins - 1)

    def each() -> Iterator[Bin]:
        for place in np.unique(places):
            inside = places == place
            yield Bin(float(confidence[inside].mean()), float(right[inside].mean()), int(inside.sum()))

    return list(each())


def calibration_error(bins: list[Bin]) -> float:
    """Expected calibration error: mean of |accuracy − confidence| over predictions (Guo et al. 2017)."""
    count = sum(each.count for each in bins)
    gaps = sum(each.count * abs(each.accuracy - each.confidence) for each in bins)
    return gaps / count if count else 0.0


def correlation(one: np.ndarray, other: np.ndarray) -> float:
    """Pearson's correlation of two arrays of like size; 0 where one of them does not vary."""
    if len(one) < 2 or not (np.ptp(one) and np.ptp(other)):
        return 0.0
    return float(np.corrcoef(one.astype(np.float64), other.astype(np.float64))[0, 1])
