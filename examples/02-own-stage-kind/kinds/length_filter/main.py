"""Entry point of ``length_filter``: rows in, the rows whose response has a fitting length out."""

from __future__ import annotations

import json

from rlhfc.stages.common.job import Job, StageError, run_stage
from rlhfc.stages.common.metrics import Metrics

from .kind import KIND, LengthFilterParams


def fits(response: str, params: LengthFilterParams) -> bool:
    """Whether the response has at least ``min_words`` and at most ``max_words`` words."""
    return params.min_words <= len(response.split()) <= params.max_words


def main(job: Job[LengthFilterParams]) -> None:
    """Read, filter, write; the manifest last."""
    source = job.inputs["rows"].full
    if not source.name.endswith(".jsonl"):
        raise StageError(f"`{source}` is not one JSON Lines file", "name a file that ends in `.jsonl`")
    rows = [json.loads(line) for line in source.read_text(encoding="utf-8").splitlines()]
    kept = [row for row in rows if fits(row["response"], job.params)]
    if not kept:
        raise StageError(f"none of {len(rows)} rows stays", "lower `min_words` or raise `max_words`")
    text = "".join(json.dumps(row, ensure_ascii=False) + "\n" for row in kept)
    (job.outputs["rows"] / "rows.jsonl").write_text(text, encoding="utf-8")
    Metrics(job.paths["metrics"]).write(step=1, total=1, phase="filter", read=len(rows), kept=len(kept))
    job.write_manifest(step=1, total=1, summary={"kept": len(kept), "dropped": len(rows) - len(kept)})


if __name__ == "__main__":
    run_stage(KIND, LengthFilterParams, main)
