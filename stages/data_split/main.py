"""Entry point of ``data_split``: sources in, token files of three parts and the held-out prompts out."""

from __future__ import annotations

import shutil
import tempfile
from collections import Counter
from collections.abc import Hashable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np

from ..common.job import Job, StageError, run_stage
from ..common.metrics import Metrics
from ..common.rendering import Renderer, install_template
from ..common.tokenfiles import write_meta, write_split
from ..common.tokenizers import load_tokenizer, save_tokenizer, vocabulary_digest
from .kind import KIND, DataSource, DataSplitParams
from .reading import open_source
from .rows import Row, RowError, parse, usable_parts
from .splitting import Place, Side, assign, shuffled
from .tokenising import Rules, Segments, Tokeniser, control_tokens

PARTS = ("sft", "reward", "prompts")


@dataclass(frozen=True)
class Split:
    """One file of a port: which rows it holds, and what of them."""

    port: str
    name: Side
    place: Place
    answers: tuple[str, ...]
    kind: str


SPLITS = (
    Split("sft", "train", Place("sft", "train"), ("response",), "demonstrations"),
    Split("sft", "eval", Place("sft", "eval"), ("response",), "demonstrations"),
    Split("reward", "train", Place("reward", "train"), ("chosen", "rejected"), "preferences"),
    Split("reward", "eval", Place("reward", "eval"), ("chosen", "rejected"), "preferences"),
    Split("prompts", "train", Place("prompts", "train"), (), "prompts"),
    Split("heldout", "eval", Place("prompts", "eval"), ("response",), "heldout"),
)


@dataclass
class Blend:
    """Rows of all sources by place, and what became of every record.

    Attributes:
        rows: by place, in the order of the sources.
        taken: place of each prompt.
        read: records seen, by address of the source.
        dropped: records that are in no part, by reason.
    """

    rows: dict[Place, list[Row]] = field(default_factory=lambda: {split.place: [] for split in SPLITS})
    taken: dict[Hashable, Place] = field(default_factory=dict)
    read: dict[str, int] = field(default_factory=dict)
    dropped: Counter[str] = field(default_factory=Counter)


def main(job: Job[DataSplitParams]) -> None:
    """Read, split, tokenise, write."""
    params = job.params
    metrics = Metrics(job.paths["metrics"])
    tokenizer = load_tokenizer(job.inputs["tokenizer"])
    install_template(tokenizer, params.template)
    blend = _blend(job)
    total = len(SPLITS) + 1
    metrics.write(step=1, total=total, phase="read", rows=sum(blend.read.values()))

    save_tokenizer(tokenizer, job.outputs["sft"] / "tokenizer")
    facts = {"template": params.template, "vocabulary": vocabulary_digest(tokenizer)}
    counts: dict[str, int] = {}
    files: dict[str, dict[str, list[Segments]]] = {port: {} for port in job.outputs}
    with Tokeniser(job.outputs["sft"] / "tokenizer", params.workers) as tokeniser:
        tokens = control_tokens(Renderer(tokenizer))
        for step, split in enumerate(SPLITS, start=2):
            rules = Rules(
                split.answers, params.max_tokens, params.max_prompt_tokens, tokens, params.template == "plain"
            )
            order = shuffled(blend.rows[split.place], params.seed, f"{split.port} {split.name}")
            rows = tokeniser.run(order, rules, blend.dropped, job.beat)
            _require_rows(split, rows, params, blend)
            files[split.port][split.name] = rows
            counts[f"{split.port}_{split.name}"] = len(rows)
            metrics.write(step=step, total=total, phase=f"tokenise {split.port} {split.name}", rows=len(rows))
    for port, folder in job.outputs.items():
        _write_port(
            job, port, folder, files[port], facts | {"read": blend.read, "dropped": dict(blend.dropped)}
        )
    summary = counts | {"read": sum(blend.read.values()), "dropped": sum(blend.dropped.values())}
    job.write_manifest(step=total, total=total, summary=summary)


def _blend(job: Job[DataSplitParams]) -> Blend:
    """Rows of every source, each in its place."""
    blend = Blend()
    # Converted files are large and soon useless: they live in the attempt, only while it reads.
    with tempfile.TemporaryDirectory(dir=job.paths["attempt"], prefix="datasets-") as cache:
        for index, source in enumerate(job.params.sources):
            address = f"sources.{index}"
            _add_source(blend, job, source, address, Path(cache))
    return blend


def _add_source(
    blend: Blend, job: Job[DataSplitParams], source: DataSource, address: str, cache: Path
) -> None:
    params, where = job.params, job.inputs[f"{address}.data"]
    usable = usable_parts(source, address)
    weights = {part: weight for part, weight in zip(PARTS, params.parts, strict=True) if part in usable}
    records, held = open_source(source, where, cache)
    # A named evaluation split goes first, so that its prompts are held out wherever else they appear.
    for side, data, fraction in (
        ("eval", held, 1.0),
        ("train", records, params.eval_fraction if held is None else 0.0),
    ):
        if data is None:
            continue
        order = shuffled(range(len(data)), params.seed, f"{address} {side} records")[: source.max_rows]
        blend.read[address] = blend.read.get(address, 0) + len(order)
        rows = list(_parsed(job, source, data.select(order), blend.dropped))
        assign(
            [row.prompt_key for row in rows],
            weights,
            eval_fraction=fraction,
            seed=params.seed,
            purpose=f"{address} {side}",
            taken=blend.taken,
        )
        for row in rows:
            place = blend.taken.get(row.prompt_key)
            if place is None or place.part not in weights:
                blend.dropped["prompt_elsewhere"] += 1
            else:
                blend.rows[place].append(row)


def _parsed(
    job: Job[DataSplitParams],
    source: DataSource,
    records: Iterable[Mapping[str, Any]],
    dropped: Counter[str],
) -> Iterable[Row]:
    for record in records:
        job.beat()
        try:
            yield parse(source, record)
        except RowError as error:
            dropped[error.reason] += 1


def _require_rows(split: Split, rows: Sequence[Segments], params: DataSplitParams, blend: Blend) -> None:
    if rows or not params.parts[PARTS.index(split.place.part)]:
        return
    reasons = ", ".join(f"{count} {reason}" for reason, count in blend.dropped.most_common()) or "none"
    raise StageError(
        f"no row is left for `{split.port}` ({split.name}); "
        f"of {sum(blend.read.values())} read were dropped: {reasons}",
        "`reward` needs sources with `chosen` and `rejected`, `sft` answers; "
        "add rows, raise `max_tokens`, or set the part's weight in `parts` to 0",
    )


def _write_port(
    job: Job[DataSplitParams],
    port: str,
    folder: Path,
    files: Mapping[str, Sequence[Segments]],
    facts: Mapping[str, Any],
) -> None:
    tokenizer = job.outputs["sft"] / "tokenizer"
    if folder / "tokenizer" != tokenizer:
        shutil.copytree(tokenizer, folder / "tokenizer")
    splits = {split.name: split for split in SPLITS if split.port == port}
    rows = {name: write_split(folder, name, files[name]) for name in splits}
    names = ["prompt", *next(iter(splits.values())).answers]
    lengths = {name: _lengths(names, segments) for name, segments in files.items()}
    write_meta(folder, next(iter(splits.values())).kind, rows, lengths=lengths, **facts)


def _lengths(names: Sequence[str], rows: Sequence[Segments]) -> dict[str, dict[str, float]]:
    """Tokens of each segment: mean, median, 95th percentile, maximum."""
    if not rows:
        return {}
    counts = np.array([[len(segment) for segment in row] for row in rows])
    return {
        name: {
            "mean": round(float(column.mean()), 2),
            "median": float(np.median(column)),
            "p95": float(np.percentile(column, 95, method="higher")),
            "max": int(column.max()),
        }
        for name, column in zip(names, counts.T, strict=True)
    }


if __name__ == "__main__":
    run_stage(KIND, DataSplitParams, main)
