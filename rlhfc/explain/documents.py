"""What `explain` and `diff` find, as plain values."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict
from typing import Any

from rlhfc.explain import FORMAT_VERSION
from rlhfc.explain.comparison import Comparison, StageComparison
from rlhfc.explain.components import Address, Change, origin
from rlhfc.explain.explanation import Explanation


def explanation_document(found: Explanation) -> dict[str, Any]:
    """Everything behind a verdict."""
    planned = found.planned
    return {
        "format_version": FORMAT_VERSION,
        "stage": planned.stage,
        "kind": planned.kind,
        "verdict": planned.verdict.value,
        "key": planned.key,
        "causes": list(found.causes),
        "components": [_component(address, value, found) for address, value in found.now.items()],
        "changes": [change_document(change) for change in found.changes],
        "pending": [
            {"group": str(item.group), "path": item.path, "waits_for": item.what} for item in found.waiting
        ],
        "recorded": [
            {
                "path": item.path,
                "impact": item.impact,
                "before": item.before,
                "after": item.after,
                "place": item.place,
            }
            for item in found.recorded
        ],
        "last_result": _last(found),
        "would_be_cached_with": [
            {
                "run": earlier.made.run,
                "time": earlier.made.time,
                "key": earlier.made.key,
                "needs": [change_document(change) for change in earlier.needs],
            }
            for earlier in found.earlier
        ],
    }


def _last(found: Explanation) -> dict[str, Any] | None:
    if found.last is None:
        return None
    made, result = found.last
    accepted = found.planned.accepted
    return {
        "run": made.run,
        "time": made.time,
        "key": made.key,
        "whole": result is not None,
        "accepted": asdict(accepted) if accepted is not None else None,
    }


def comparison_document(found: Comparison) -> dict[str, Any]:
    """What differs between two sides; of stages those that differ or have outputs."""
    sides = (found.before, found.after)
    return {
        "format_version": FORMAT_VERSION,
        "different": found.different,
        **{
            name: {"name": side.name, "of": side.of, "commit": side.commit}
            for name, side in zip(("before", "after"), sides, strict=True)
        },
        "removed": dict(found.removed),
        "added": dict(found.added),
        "environment": [_pair(*change) for change in found.environment],
        "stages": [_stage(stage) for stage in found.stages if stage.different or stage.outputs],
    }


def _stage(stage: StageComparison) -> dict[str, Any]:
    return {
        "stage": stage.stage,
        "settings": [change_document(change) for change in stage.settings],
        "inputs": [change_document(change) for change in stage.inputs],
        "code": [change_document(change) for change in stage.code],
        "outputs": [
            {
                "port": port.port,
                "identical": port.identical,
                "before": {"digest": port.before, "size": port.size_before},
                "after": {"digest": port.after, "size": port.size_after},
            }
            for port in stage.outputs
        ],
        "figures": [_pair(*figure) for figure in stage.figures],
    }


def _pair(name: str, before: Any, after: Any) -> dict[str, Any]:
    return {"name": name, "before": before, "after": after}


def change_document(change: Change) -> dict[str, Any]:
    """One component that differs."""
    return {
        "group": str(change.group),
        "path": change.path,
        "before": change.before,
        "after": change.after,
        "place": change.place,
        "place_before": change.place_before,
    }


def _component(address: Address, value: Any, found: Explanation) -> Mapping[str, Any]:
    group, path = address
    place = origin(found.places, address)
    return {
        "group": str(group),
        "path": path,
        "value": value,
        "impact": found.impact(address),
        "place": place,
    }
