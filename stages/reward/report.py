"""What a reward model is worth, kept beside its weights: ``reward_report.json``."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict
from pathlib import Path
from typing import Any

import numpy as np

from ..common.job import write_json
from ..common.pairs import Judged
from ..common.statistics import calibration

FORMAT = 1
FILE = "reward_report.json"
BINS = 20


def write_report(folder: Path, judged: Judged, figures: Mapping[str, float]) -> None:
    """Write figures, statistics of scores, a histogram of margins, and calibration, of held-out pairs.

    ``scores`` has mean and deviation over both sides: what a consumer needs to normalise by.
    """
    write_json(folder / FILE, {"format": FORMAT, "figures": dict(figures), **_described(judged)})


def _described(judged: Judged) -> dict[str, Any]:
    values = judged.values.astype(np.float64)
    if not len(values):
        return {"scores": None, "margins": None, "calibration": []}
    counts, edges = np.histogram(judged.differences, bins=BINS)
    return {
        "scores": {"mean": float(values.mean()), "deviation": float(values.std())},
        "margins": {"edges": edges.tolist(), "counts": counts.tolist()},
        "calibration": [asdict(each) for each in calibration(judged.differences)],
    }
