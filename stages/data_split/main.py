"""Entry point of ``data_split``: sources in, token files of three parts and the held-out prompts out."""

from __future__ import annotations

import shutil
import tempfile
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from ..common.job import Job, StageError, run_stage
from ..common.metrics import Metrics
from ..common.rendering import Renderer, install_template
from ..common.tokenfiles import SEGMENTS, SPANS, TokenWriter, write_meta
from ..common.tokenizers import load_tokenizer, save_tokenizer, vocabulary_digest
from .catalogue import PARTS, Catalogue, catalogue
from .kind import KIND, DataSplitParams
from .overlap import Watched, prompt_texts
from .reading import load_columns
from .report import SplitReport, lengths, write_report
from .rows import Row
from .splitting import Place, Side
from .tokenising import CHUNK, Outcome, Rules, Tokeniser, control_tokens


@dataclass(frozen=True)
class Split:
    """One file of a port: which rows it holds, and what of them."""

    port: str
    side: Side
    place: Place
    answers: tuple[str, ...]
    kind: str

    @property
    def name(self) -> str:
        """What summary and report call it."""
        return f"{self.port}_{self.side}"


HELD_OUT = Split("heldout", "eval", Place("prompts", "eval"), ("response",), "heldout")
SPLITS = (
    Split("sft", "train", Place("sft", "train"), ("response",), "demonstrations"),
    Split("sft", "eval", Place("sft", "eval"), ("response",), "demonstrations"),
    Split("reward", "train", Place("reward", "train"), ("chosen", "rejected"), "preferences"),
    Split("reward", "eval", Place("reward", "eval"), ("chosen", "rejected"), "preferences"),
    Split("prompts", "train", Place("prompts", "train"), (), "prompts"),
    HELD_OUT,
)
PORTS = {split.port: [each for each in SPLITS if each.port == split.port] for split in SPLITS}


def main(job: Job[DataSplitParams]) -> None:
    """Read, split, tokenise, write."""
    params = job.params
    metrics = Metrics(job.paths["metrics"])
    tokenizer = load_tokenizer(job.inputs["tokenizer"])
    install_template(tokenizer, params.template)
    home = job.outputs["sft"] / "tokenizer"
    save_tokenizer(tokenizer, home)
    # Converted files are large and soon useless: they live in the attempt, only while it reads.
    with tempfile.TemporaryDirectory(dir=job.paths["attempt"], prefix="datasets-") as cache:
        found = catalogue(job, Path(cache))
        total = len(SPLITS) + 1
        metrics.write(step=1, total=total, phase="read", rows=sum(found.read.values()))
        watched = _watch(job, found, Path(cache))
        reports = {}
        with Tokeniser(home, params.workers, watched) as tokeniser:
            writing = Writing(job, found, tokeniser, control_tokens(Renderer(tokenizer)))
            for step, split in enumerate(SPLITS, start=2):
                reports[split.name] = report = writing.write(split)
                rows = report.sources.total()
                metrics.write(step=step, total=total, phase=f"tokenise {split.port} {split.side}", rows=rows)
    facts = {"template": params.template, "vocabulary": vocabulary_digest(tokenizer)}
    for port in PORTS:
        _finish_port(job.outputs[port], port, home, reports, facts)
    write_report(job.outputs["report"], found, reports, watched)
    counts = {name: report.sources.total() for name, report in reports.items()}
    dropped = found.drops.by_reason.total()
    job.write_manifest(
        step=total, total=total, summary=counts | {"read": sum(found.read.values()), "dropped": dropped}
    )


def _watch(job: Job[DataSplitParams], found: Catalogue, cache: Path) -> Watched:
    """Prompts that training should not have seen: the held-out ones and those of benchmarks."""
    overlap = job.params.overlap
    watched = Watched(overlap.words)
    for chunk in _chunks(found, found.at(HELD_OUT.place, "watched")):
        for row in chunk:
            job.beat()
            watched.add("heldout", [turn["content"] for turn in row.messages if turn["role"] == "user"])
    for index, benchmark in enumerate(overlap.against):
        address = f"overlap.against.{index}"
        where = job.inputs[f"{address}.data"]
        rows = load_columns(where, benchmark.subset, benchmark.split, [benchmark.column], cache)
        for number, prompt in enumerate(rows[benchmark.column], start=1):
            job.beat()
            place = f"`{benchmark.column}` of record {number} of `{where.full}`"
            watched.add(address, prompt_texts(prompt, place))
    return watched


def _chunks(found: Catalogue, chosen: np.ndarray) -> Iterator[list[Row]]:
    for start in range(0, len(chosen), CHUNK):
        yield found.rows(chosen[start : start + CHUNK])


class Writing:
    """Writes splits, one after the other."""

    def __init__(
        self, job: Job[DataSplitParams], found: Catalogue, tokeniser: Tokeniser, control: tuple[str, ...]
    ) -> None:
        self._job, self._found, self._tokeniser, self._control = job, found, tokeniser, control

    def write(self, split: Split) -> SplitReport:
        """Write the rows of a split and tell about them.

        Raises:
            StageError: its part has a weight, and no row is left.
        """
        chosen = self._found.at(split.place, f"{split.port} {split.side}")
        report = SplitReport()
        with TokenWriter(self._job.outputs[split.port], split.side) as writer:
            outcomes = self._tokeniser.run(_chunks(self._found, chosen), self._rules(split))
            numbers = iter(chosen.tolist())
            for outcome in (outcome for chunk in outcomes for outcome in chunk):
                self._job.beat()
                self._take(outcome, next(numbers), writer, report)
            names = SEGMENTS[split.kind]
            report.lengths = lengths(names, writer.lengths(len(names)))
        if not writer.rows and self._wanted(split):
            raise _no_row(split, self._found)
        return report

    def _take(self, outcome: Outcome, row: int, writer: TokenWriter, report: SplitReport) -> None:
        if outcome.seen:
            report.overlapping += 1
            report.seen |= outcome.seen
        if outcome.reason is not None:
            self._found.leave_out(row, outcome.reason)
        elif outcome.segments is not None:
            writer.add(outcome.segments)
            report.sources[self._found.address(row)] += 1

    def _rules(self, split: Split) -> Rules:
        params = self._job.params
        return Rules(
            split.answers,
            params.max_tokens,
            params.max_prompt_tokens,
            self._control,
            control_in_prompts=params.template == "plain",
            earlier=SPANS in SEGMENTS[split.kind],
            screened=split.side == "train",
            drop_seen=params.overlap.drop,
        )

    def _wanted(self, split: Split) -> bool:
        params, part = self._job.params, PARTS.index(split.place.part)
        return any((source.parts or params.parts)[part] for source in params.sources)


def _no_row(split: Split, found: Catalogue) -> StageError:
    reasons = ", ".join(f"{count} {reason}" for reason, count in found.drops.by_reason.most_common())
    return StageError(
        f"no row is left for `{split.port}` ({split.side}); "
        f"of {sum(found.read.values())} read were dropped: {reasons or 'none'}",
        "`reward` needs sources with `chosen` and `rejected`, `sft` answers; "
        "add rows, raise `max_tokens`, or set the part's weight in `parts` to 0",
    )


def _finish_port(
    folder: Path, port: str, tokenizer: Path, reports: Mapping[str, SplitReport], facts: Mapping[str, Any]
) -> None:
    if folder / "tokenizer" != tokenizer:
        shutil.copytree(tokenizer, folder / "tokenizer")
    found = {split.side: reports[split.name] for split in PORTS[port]}
    rows = {side: report.sources.total() for side, report in found.items()}
    measured = {side: report.lengths for side, report in found.items()}
    write_meta(folder, PORTS[port][0].kind, rows, lengths=measured, **facts)


if __name__ == "__main__":
    run_stage(KIND, DataSplitParams, main)
