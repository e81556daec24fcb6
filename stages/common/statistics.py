"""Intervals for shares."""

from __future__ import annotations

import math
from statistics import NormalDist


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
