"""First pass over all sources: what each record is worth and where it goes, in some 40 bytes a record.

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
        self._source = np.empty(0, dtype=np.int32)
        self._record = np.empty(0, dtype=np.int64)
        self._place = np.empty(0, dtype=np.int8)
        self._prompt = np.empty(0, dtype="S16")
        self._content = np.empty(0, dtype="S16")
        self._asked: dict[str, np.ndarray] = {}
        self.read: dict[str, int] = {}
        self.repeated: Counter[str] = Counter()
        self.drops = Drops()

    def add(self, records: Records, limit: int | None, eval_fraction: float) -> None:
        """Take in records, shuffled, at most ``limit``, and give their prompts places."""
        seed, purpose = self._params.seed, f"{records.address} {records.side}"
        order = permutation(len(records.data), seed, f"{purpose} records")[:limit]
        self.read[records.address] = self.read.get(records.address, 0) + len(order)
        prompts, contents, good = self._scan(records, np.sort(order))
        at = np.searchsorted(np.sort(order), order)
        at = at[good[at]]
        record, prompts, contents = np.sort(order)[at], prompts[at], contents[at]
        self._placement.assign(
            prompts, records.weights, eval_fraction=eval_fraction, seed=seed, purpose=purpose
        )
        places = self._placement.find(prompts)
        served = [index for index, place in enumerate(PLACES) if place.part in records.weights]
        before = self._asked.get(records.address, prompts[:0])
        self._asked[records.address] = np.unique(np.concatenate([before, prompts]))
        self._append(records, record, np.where(np.isin(places, served), places, NOWHERE), prompts, contents)

    def _scan(self, records: Records, chosen: np.ndarray) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
        """Digests of prompt and content of each chosen record, and whether it makes a row."""
        count = len(chosen)
        prompts, contents = np.zeros(count, dtype="S16"), np.zeros(count, dtype="S16")
        good = np.zeros(count, dtype=bool)
        data = records.data if count == len(records.data) else records.data.select(chosen)
        for at, record in enumerate(_each(data)):
            self._beat()
            try:
                row = records.form.parse(record)
            except RowError as error:
                self.drops.add(error.reason, records.address, records.side, int(chosen[at]))
                continue
            prompts[at], contents[at], good[at] = row.prompt_key, row.content_key, True
        return prompts, contents, good

    def _append(
        self,
        records: Records,
        record: np.ndarray,
        places: np.ndarray,
        prompts: np.ndarray,
        contents: np.ndarray,
    ) -> None:
        """Keep the rows that have a place and, where duplicates are dropped, are no repetition."""
        elsewhere = places == NOWHERE
        double = np.zeros(len(record), dtype=bool)
        double[~elsewhere] = repeated(self._content, contents[~elsewhere])
        # Of rows in the prompts part only the prompt is used.
        asked = np.isin(places, ASKED)
        double[asked] |= repeated(self._prompt[np.isin(self._place, ASKED)], prompts[asked])
        self.repeated[records.address] += int(double.sum())
        double &= self._params.duplicates == "drop"
        for reason, dropped in (("prompt_elsewhere", elsewhere), ("duplicate", double)):
            for each in record[dropped]:
                self.drops.add(reason, records.address, records.side, int(each))
        kept = ~(elsewhere | double)
        source = np.full(int(kept.sum()), len(self._records), dtype=np.int32)
        self._records.append(records)
        self._source = np.concatenate([self._source, source])
        self._record = np.concatenate([self._record, record[kept]])
        self._place = np.concatenate([self._place, places[kept]])
        self._prompt = np.concatenate([self._prompt, prompts[kept]])
        self._content = np.concatenate([self._content, contents[kept]])

    def at(self, place: Place, purpose: str) -> np.ndarray:
        """Rows in a place, as often as their weights say, in the order of the seed and ``purpose``."""
        rows = np.flatnonzero(self._place == PLACES.index(place))
        if place.side == "train" and any(records.weight != 1.0 for records in self._records):
            rows = np.concatenate(
                [
                    thinned(
                        rows[self._source[rows] == number],
                        records.weight,
                        self._params.seed,
                        f"{records.address} weight {place.part}",
                    )
                    for number, records in enumerate(self._records)
                ]
            )
        return rows[permutation(len(rows), self._params.seed, purpose)]

    def rows(self, chosen: np.ndarray) -> list[Row]:
        """These rows, read again."""
        found: list[Row | None] = [None] * len(chosen)
        sources = self._source[chosen]
        for number in np.unique(sources):
            places = np.flatnonzero(sources == number)
            records = self._records[number]
            columns = records.data[self._record[chosen[places]].tolist()]
            for place, values in zip(places, zip(*columns.values(), strict=True), strict=True):
                found[place] = records.form.parse(dict(zip(columns, values, strict=True)))
        return [row for row in found if row is not None]

    def drop(self, row: int, reason: Reason) -> None:
        """Note that a row of a split is left out after all."""
        records = self._records[self._source[row]]
        self.drops.add(reason, records.address, records.side, int(self._record[row]))

    def address(self, row: int) -> str:
        """Address of the source that a row is from."""
        return self._records[self._source[row]].address

    def shared_prompts(self) -> dict[tuple[str, str], int]:
        """For each two sources how many prompts are in both, where there are any."""
        both = {
            pair: len(np.intersect1d(*(self._asked[address] for address in pair), assume_unique=True))
            for pair in combinations(self._asked, 2)
        }
        return {pair: count for pair, count in both.items() if count}


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
