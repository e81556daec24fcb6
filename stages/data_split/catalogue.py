"""First pass over all sources: what each record is worth and where it goes, in some 100 bytes a record.

Texts stay in memory-mapped files; they are read once here, front to back, and once more when the rows of
a split are asked for.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from itertools import combinations
from pathlib import Path
from typing import Any

import datasets
import numpy as np

from ..common.job import Job
from .formats import Format
from .kind import DataSource, DataSplitParams
from .reading import open_source
from .rows import Reason, Row, RowError
from .splitting import NOWHERE, PLACES, Place, Placement, Side, permutation, repeated, thinned

PARTS = ("sft", "reward", "prompts")
ASKED = [index for index, place in enumerate(PLACES) if place.part == "prompts"]
BATCH = 1000  # records that are taken out of a file at once
EXAMPLES = 5


@dataclass
class Drops:
    """Records that are in no part: how many, by source and reason, and where the first ones are."""

    counts: dict[str, Counter[Reason]] = field(default_factory=dict)
    examples: dict[tuple[str, Reason], list[tuple[Side, int]]] = field(default_factory=dict)

    def add(self, reason: Reason, address: str, side: Side, record: int) -> None:
        """Note one; records are numbered from 0."""
        self.counts.setdefault(address, Counter())[reason] += 1
        shown = self.examples.setdefault((address, reason), [])
        if len(shown) < EXAMPLES:
            shown.append((side, record))

    @property
    def by_reason(self) -> Counter[Reason]:
        """Counts over all sources."""
        return sum(self.counts.values(), Counter())


@dataclass(frozen=True)
class Records:
    """One side of one source, and the weights of the parts that it feeds."""

    address: str
    side: Side
    form: Format
    data: datasets.Dataset
    weights: Mapping[str, int]
    weight: float


ROW = np.dtype(
    [("source", np.int32), ("record", np.int64), ("place", np.int8), ("prompt", "S16"), ("content", "S16")]
)
"""A row: the side of a source and the record in it, an index into ``PLACES``, and two digests."""


class Catalogue:
    """Every record that makes a row: which it is, and its place.

    Attributes:
        read: records seen, by address of the source.
        repeated: rows that repeat an earlier one, kept or not.
        drops: those that are in no part.
    """

    def __init__(self, params: DataSplitParams, beat: Callable[[], None]) -> None:
        self._params, self._beat = params, beat
        self._placement = Placement()
        self._records: list[Records] = []
        self._rows = np.empty(0, dtype=ROW)
        self._prompts: dict[str, np.ndarray] = {}
        self._left_out: set[int] = set()
        self.read: dict[str, int] = {}
        self.repeated: Counter[str] = Counter()
        self.drops = Drops()

    def add(self, records: Records, limit: int | None, eval_fraction: float) -> None:
        """Take in records, shuffled, at most ``limit``, and give their prompts places."""
        seed, address, purpose = self._params.seed, records.address, f"{records.address} {records.side}"
        order = permutation(len(records.data), seed, f"{purpose} records")[:limit]
        self.read[address] = self.read.get(address, 0) + len(order)
        rows = _in_order(self._scan(records, np.sort(order)), order)
        self._placement.assign(
            rows["prompt"], records.weights, eval_fraction=eval_fraction, seed=seed, purpose=purpose
        )
        rows["place"] = self._placement.find(rows["prompt"])
        served = [index for index, place in enumerate(PLACES) if place.part in records.weights]
        rows["place"][~np.isin(rows["place"], served)] = NOWHERE
        before = self._prompts.get(address, rows["prompt"][:0])
        self._prompts[address] = np.unique(np.concatenate([before, rows["prompt"]]))
        self._keep(records, rows)

    def _scan(self, records: Records, chosen: np.ndarray) -> np.ndarray:
        """Rows of the chosen records, which are sorted; those that make none are counted as dropped."""
        rows, count = np.zeros(len(chosen), dtype=ROW), 0
        data = records.data if len(chosen) == len(records.data) else records.data.select(chosen)
        for number, record in zip(chosen.tolist(), _each(data), strict=True):
            self._beat()
            try:
                row = records.form.parse(record)
            except RowError as error:
                self.drops.add(error.reason, records.address, records.side, number)
                continue
            rows[count] = (len(self._records), number, NOWHERE, row.prompt_key, row.content_key)
            count += 1
        return rows[:count]

    def _keep(self, records: Records, rows: np.ndarray) -> None:
        """Keep the rows that have a place and, where duplicates are dropped, repeat none."""
        elsewhere = rows["place"] == NOWHERE
        double = np.zeros(len(rows), dtype=bool)
        double[~elsewhere] = repeated(self._rows["content"], rows["content"][~elsewhere])
        # Of rows in the prompts part only the prompt is used.
        asked, before = np.isin(rows["place"], ASKED), np.isin(self._rows["place"], ASKED)
        double[asked] |= repeated(self._rows["prompt"][before], rows["prompt"][asked])
        self.repeated[records.address] += int(double.sum())
        double &= self._params.duplicates == "drop"
        for reason, dropped in (("prompt_elsewhere", elsewhere), ("duplicate", double)):
            for number in rows["record"][dropped].tolist():
                self.drops.add(reason, records.address, records.side, number)
        self._records.append(records)
        self._rows = np.concatenate([self._rows, rows[~(elsewhere | double)]])

    def at(self, place: Place, purpose: str) -> np.ndarray:
        """Rows in a place, as often as their weights say, in the order of the seed and ``purpose``."""
        seed = self._params.seed
        rows = np.flatnonzero(self._rows["place"] == PLACES.index(place))
        if place.side == "train" and any(records.weight != 1.0 for records in self._records):
            sources = self._rows["source"][rows]
            weighed = [
                thinned(rows[sources == number], each.weight, seed, f"{each.address} weight {place.part}")
                for number, each in enumerate(self._records)
            ]
            rows = np.concatenate(weighed)
        return rows[permutation(len(rows), seed, purpose)]

    def rows(self, chosen: np.ndarray) -> list[Row]:
        """These rows, read again."""
        found: list[Row | None] = [None] * len(chosen)
        wanted = self._rows[chosen]
        for number in np.unique(wanted["source"]):
            places = np.flatnonzero(wanted["source"] == number)
            records = self._records[number]
            columns = records.data[wanted["record"][places].tolist()]
            for place, values in zip(places, zip(*columns.values(), strict=True), strict=True):
                found[place] = records.form.parse(dict(zip(columns, values, strict=True)))
        return [row for row in found if row is not None]

    def leave_out(self, row: int, reason: Reason) -> None:
        """Note that a row of a split is left out after all; a row that comes several times counts once."""
        if row not in self._left_out:
            self._left_out.add(row)
            records = self._records[self._rows["source"][row]]
            self.drops.add(reason, records.address, records.side, int(self._rows["record"][row]))

    def address(self, row: int) -> str:
        """Address of the source that a row is from."""
        return self._records[self._rows["source"][row]].address

    def shared_prompts(self) -> dict[tuple[str, str], int]:
        """For each two sources how many prompts are in both, where there are any."""
        both = {
            pair: len(np.intersect1d(*(self._prompts[address] for address in pair), assume_unique=True))
            for pair in combinations(self._prompts, 2)
        }
        return {pair: count for pair, count in both.items() if count}


def _in_order(rows: np.ndarray, order: np.ndarray) -> np.ndarray:
    """Rows in the order of their records; ``rows`` is sorted by them and may lack some."""
    at = np.searchsorted(rows["record"], order).clip(max=max(len(rows) - 1, 0))
    return rows[at[rows["record"][at] == order]] if len(rows) else rows


def _each(data: datasets.Dataset) -> Iterator[dict[str, Any]]:
    for batch in data.iter(batch_size=BATCH):
        for values in zip(*batch.values(), strict=True):
            yield dict(zip(batch, values, strict=True))


def catalogue(job: Job[DataSplitParams], cache: Path) -> Catalogue:
    """Records of every source.

    Args:
        job: names the sources.
        cache: folder for converted files, which must stay as long as rows are read.

    Raises:
        StageError: a source cannot be read.
    """
    found = Catalogue(job.params, job.beat)
    for index, source in enumerate(job.params.sources):
        address = f"sources.{index}"
        form, rows, held = open_source(source, job.inputs[f"{address}.data"], cache, address)
        weights = _weights(job.params, source, form)
        # A named evaluation split goes first, so that its prompts are held out wherever else they appear.
        if held is not None:
            found.add(Records(address, "eval", form, held, weights, source.weight), source.max_rows, 1.0)
        fraction = job.params.eval_fraction if held is None else 0.0
        found.add(Records(address, "train", form, rows, weights, source.weight), source.max_rows, fraction)
    return found


def _weights(params: DataSplitParams, source: DataSource, form: Format) -> dict[str, int]:
    weights = zip(PARTS, source.parts or params.parts, strict=True)
    return {part: weight for part, weight in weights if weight and part in form.feeds}
