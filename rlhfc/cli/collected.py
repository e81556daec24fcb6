"""What `rlhfc gc` has removed or would remove: as a document, and as text made from that."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

from rlhfc.plan.quantities import duration, size
from rlhfc.upkeep.inventory import Inventory
from rlhfc.upkeep.marks import Candidate, Policy, Removal

FORMAT_VERSION = "1.0"
Row = dict[str, Any]


def removal_document(
    removal: Removal, inventory: Inventory, policy: Policy, store: str, *, done: bool
) -> dict[str, Any]:
    """Everything as JSON; ``done`` tells a removal from what one would be."""
    rows: dict[tuple[str, str], Row] = {}
    for candidate in removal.chosen:
        _add(rows, candidate)
    return {
        "format_version": FORMAT_VERSION,
        "store": store,
        "done": done,
        "keeps": {"runs": policy.keep_runs, "grace_hours": policy.grace / 3600},
        "stages": [rows[at] for at in sorted(rows)],
        "keys": sorted(candidate.key for candidate in removal.chosen if candidate.result is not None),
        "bytes_freed": removal.size,
        "bytes_before": inventory.size,
        "results_kept": removal.kept,
        "results_unlisted": removal.unlisted,
    }


def _add(rows: dict[tuple[str, str], Row], candidate: Candidate) -> None:
    names = {"pipeline": candidate.pipeline, "stage": candidate.stage}
    sums = {"results": 0, "unfinished": 0, "bytes": 0, "gpu_seconds": 0.0, "cpu_seconds": 0.0}
    row = rows.setdefault((candidate.pipeline, candidate.stage), {**names, **sums})
    row["results" if candidate.result is not None else "unfinished"] += 1
    row["bytes"] += candidate.size
    row["gpu_seconds"] += candidate.cost[0]
    row["cpu_seconds"] += candidate.cost[1]


def removal_lines(document: Mapping[str, Any]) -> Iterator[str]:
    """The document as text: a table by stage, and the sum."""
    runs, hours = document["keeps"]["runs"], document["keeps"]["grace_hours"]
    newest = "the newest result" if runs == 1 else f"the newest {runs} results"
    yield (
        f"store {document['store']} · keeps {newest} of each stage, tags, "
        f"what living runs use, the last {hours:g} h"
    )
    table = [_cells(row) for row in document["stages"]]
    if table:
        yield ""
        rows = [("stage", "goes", "frees", "to make again"), *table]
        widths = [max(len(row[column]) for row in rows) for column in range(3)]
        for row in rows:
            yield "  " + "  ".join(
                [*(cell.ljust(width) for cell, width in zip(row, widths, strict=False)), row[3]]
            )
    yield ""
    yield _sum(document)
    if document["results_unlisted"]:
        yield (
            f"{_count(document['results_unlisted'], 'result')} kept that the ledger does not know: "
            "from another store, or its lines are damaged"
        )


def _cells(row: Mapping[str, Any]) -> tuple[str, str, str, str]:
    goes = [_count(row["results"], "result")] if row["results"] else []
    goes += [f"{row['unfinished']} unfinished"] if row["unfinished"] else []
    # What only several of them share is in the sum alone.
    return f"{row['pipeline']}/{row['stage']}", ", ".join(goes), size(row["bytes"]), _cost(row)


def _sum(document: Mapping[str, Any]) -> str:
    would = "Freed" if document["done"] else "Would free"
    freed, before = document["bytes_freed"], document["bytes_before"]
    stages = document["stages"]
    if not stages and not freed:
        return f"Nothing to remove: {_count(document['results_kept'], 'result')}, {size(before)}"
    total = {name: sum(row[name] for row in stages) for name in ("gpu_seconds", "cpu_seconds")}
    again = f"; to make it again: {_cost(total)}" if stages else ", none of which a result refers to"
    return (
        f"{would} {size(freed)} of {size(before)}{again}; {_count(document['results_kept'], 'result')} stay"
    )


def _cost(row: Mapping[str, Any]) -> str:
    gpu, cpu = row["gpu_seconds"], row["cpu_seconds"]
    parts = [f"{gpu / 3600:.1f} GPU-hours"] if gpu else []
    parts += [f"{duration(cpu)} on the CPU"] if cpu or not gpu else []
    return ", ".join(parts)


def _count(number: int, what: str) -> str:
    return f"{number} {what}" if number == 1 else f"{number} {what}s"
