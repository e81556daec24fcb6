"""The data report: where the rows came from, where they went, and what they share."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np

from ..common.job import write_json
from .catalogue import Catalogue
from .overlap import Watched

FORMAT = 1


@dataclass
class SplitReport:
    """Of one split: rows by source, tokens of each segment, and the watched prompts that it has seen.

    Attributes:
        sources: rows by address of the source.
        lengths: of each segment: mean, median, 95th percentile, maximum and sum of its tokens.
        overlapping: rows that share words with a watched prompt, also those dropped for it.
        seen: these prompts.
    """

    sources: Counter[str] = field(default_factory=Counter)
    lengths: dict[str, dict[str, float]] = field(default_factory=dict)
    overlapping: int = 0
    seen: set[int] = field(default_factory=set)

    def document(self) -> dict[str, Any]:
        """As JSON says it."""
        return {
            "rows": self.sources.total(),
            "by_source": dict(self.sources),
            "tokens": self.lengths,
            "overlapping_rows": self.overlapping,
        }


def lengths(names: Sequence[str], counts: np.ndarray) -> dict[str, dict[str, float]]:
    """Tokens of each segment: mean, median, 95th percentile, maximum, sum.

    Args:
        names: of the segments.
        counts: int64, (rows, segments).
    """
    if not len(counts):
        return {}
    return {
        name: {
            "mean": round(float(column.mean()), 2),
            "median": float(np.median(column)),
            "p95": float(np.percentile(column, 95, method="higher")),
            "max": int(column.max()),
            "sum": int(column.sum()),
        }
        for name, column in zip(names, counts.T, strict=True)
    }


def write_report(folder: Path, found: Catalogue, splits: Mapping[str, SplitReport], watched: Watched) -> None:
    """Write ``report.json``; records are numbered from 1 in it, as editors number lines."""
    write_json(
        folder / "report.json",
        {
            "format": FORMAT,
            "sources": {address: _source(found, address) for address in found.read},
            "splits": {name: split.document() for name, split in splits.items()},
            "prompts_in_two_sources": [
                {"sources": list(pair), "prompts": count} for pair, count in found.shared_prompts().items()
            ],
            "overlap": _overlap(splits, watched),
        },
    )


def _source(found: Catalogue, address: str) -> dict[str, Any]:
    counts = found.drops.counts.get(address, Counter())
    return {
        "read": found.read[address],
        "repeated": found.repeated[address],
        "dropped": {
            reason: {
                "records": count,
                "first": [
                    {"side": side, "record": record + 1}
                    for side, record in found.drops.examples[address, reason]
                ],
            }
            for reason, count in sorted(counts.items())
        },
    }


def _overlap(splits: Mapping[str, SplitReport], watched: Watched) -> dict[str, Any]:
    """Of each evaluation: its prompts, and how many of them each training split has seen."""
    prompts = Counter(watched.names)
    return {
        evaluation: {
            "prompts": count,
            "seen": {
                name: sum(watched.names[number] == evaluation for number in split.seen)
                for name, split in splits.items()
                if name.endswith("train")
            },
        }
        for evaluation, count in prompts.items()
    }
