"""A plan as lines for people, made from its document alone."""

from __future__ import annotations

from collections.abc import Iterator
from datetime import datetime
from pathlib import Path

from rlhfc.plan import quantities
from rlhfc.plan.document import (
    EstimateDocument,
    PlanDocument,
    ReasonDocument,
    StageDocument,
    TotalDocument,
)

SHOWN_REASONS = 3
ALIGNED = 60  # characters; where causes are longer, estimates stand ragged rather than far to the right
NEVER_RUN = "never_run"
UPSTREAM_PENDING = "upstream_pending"
UNKNOWN_HERE = ("source_unresolved", "library_missing")
SYMBOLS = {"cached": "=", "restore": "⇣", "resume": "↻", "undecided": "?", "frozen": "❄", "skipped": "-"}
VERDICTS = {
    "run": "to run",
    "resume": "to resume",
    "restore": "to restore",
    "undecided": "undecided",
    "cached": "cached",
    "frozen": "frozen",
    "skipped": "skipped",
}


def plan_lines(plan: PlanDocument, now: datetime, free: int | None = None) -> list[str]:
    """Heading, one line for each stage, the sum, and hints about what could not be known.

    Args:
        plan: the verdicts.
        now: with a time zone; ages are told from it.
        free: bytes that the store's file system has left, or None when that is not known.
    """
    stages = plan["stages"]
    names = max(len(stage["stage"]) for stage in stages)
    verdicts = max(len(stage["verdict"]) for stage in stages)
    lines = [_heading(plan), ""]
    told = [(stage, explanation(stage, now)) for stage in stages]
    widest = max((len(why) for stage, why in told if stage["estimate"]), default=0)
    for stage, why in told:
        head = f"  {symbol(stage)}  {stage['stage']:<{names}}  {stage['verdict']:<{verdicts}}"
        lines.append(f"{head}  {why:<{min(widest, ALIGNED)}}  {_estimate(stage)}".rstrip())
    lines += ["", summary(plan), *_totals(plan, free)]
    lines += [f"hint: {hint}" for hint in plan["hints"]]
    return lines


def symbol(stage: StageDocument) -> str:
    """One character for what happens: ``=`` nothing, ``+`` first result, ``±`` new result."""
    if stage["verdict"] == "run":
        return "+" if _has(stage, NEVER_RUN) else "±"
    return SYMBOLS[stage["verdict"]]


def explanation(stage: StageDocument, now: datetime) -> str:
    """Why a stage has its verdict, in one line."""
    beside = list(_beside(stage, now))
    if (result := stage["result"]) is not None:
        made = f"{quantities.ago(result['finished'], now)}, took {quantities.duration(result['seconds'])}"
        return "; ".join([f"{made}, {quantities.size(result['size'])}", *beside])
    told = _short(_causes(stage), "; ")
    if (resume := stage["resume"]) is not None:
        why = "" if _has(stage, NEVER_RUN) else f"; {told}"
        return f"at step {resume['step']} of {resume['total']}{why}"
    waits = _upstream(stage)
    along = f"; takes along {_short(_sentences(stage['ignored']))}" if stage["ignored"] else ""
    if stage["verdict"] == "run":
        return (f"{told} (after {', '.join(waits)})" if waits else told) + along
    pending = [f"after {', '.join(waits)}, if what it reads changes"] if waits else []
    if any(_has(stage, code) for code in UNKNOWN_HERE):
        pending.append("its key cannot be known here")
    return "; ".join([*([told] if told else []), *pending, *beside])


def _beside(stage: StageDocument, now: datetime) -> Iterator[str]:
    """What is told of a stage beside its verdict, each in a few words."""
    if stage["verdict"] == "frozen":
        yield from _although(stage)
    if (accepted := stage["accepted"]) is not None:
        when, why = quantities.ago(accepted["time"], now), quantities.value(accepted["why"])
        yield f"accepted by {accepted['who']} {when}: {why}"
    if stage["ignored"]:
        yield f"ignores {_short(_sentences(stage['ignored']))}"
    if stage["differences"]:
        yield f"no rerun for {_short([quantities.difference(**found) for found in stage['differences']])}"


def summary(plan: PlanDocument) -> str:
    """How many stages have each verdict."""
    if not plan["changes"]:
        counts = plan["summary"]
        words = [f"{counts['cached']} stage{'s' if counts['cached'] != 1 else ''} cached"]
        words += [f"{counts[verdict]} {verdict}" for verdict in ("frozen", "skipped") if counts[verdict]]
        return f"Nothing to do: {', '.join(words)}"
    parts = {words: plan["summary"][verdict] for verdict, words in VERDICTS.items()}
    told = "Plan: " + ", ".join(f"{count} {what}" for what, count in parts.items() if count)
    if not plan["summary"]["restore"]:
        return told
    fetched = sum(
        stage["result"]["size"]
        for stage in plan["stages"]
        if stage["verdict"] == "restore" and stage["result"]
    )
    return f"{told}\nRestore: at most {quantities.size(fetched)} from {plan['remote']}"


def _estimate(stage: StageDocument) -> str:
    """What the stage will take, in brackets; whose result tells it, when that is not its own."""
    known = stage["estimate"]
    if known is None:
        return ""
    source = f", as {known['source']}" if known["basis"] == "kind" else ""
    return f"[est {' · '.join(_spent(known))}{source}]"


def _totals(plan: PlanDocument, free: int | None) -> Iterator[str]:
    """The sums, when any stage has an estimate: of what runs for certain, and of all that may run."""
    if not any(stage["estimate"] for stage in plan["stages"]):
        return
    certain, possible = plan["estimate"]["certain"], plan["estimate"]["possible"]
    if certain["seconds"] or certain["unknown"]:
        yield f"Estimate: {_sum(certain, free)}"
    if possible != certain:
        yield f"With what is undecided: {_sum(possible, free)}"


def _sum(total: TotalDocument, free: int | None) -> str:
    unknown = [f"unknown for {', '.join(total['unknown'])}"] if total["unknown"] else []
    if not total["seconds"]:
        return unknown[0]
    wall, *gpus = _spent(total)
    left = "" if free is None else f" ({'! ' if free < total['size'] else ''}{quantities.size(free)} free)"
    disk = [f"+{quantities.size(total['size'])}{left}"] if total["size"] else []
    parts = [f"at least {wall} wall", *gpus, *disk]
    return "; ".join([" · ".join(parts), *unknown])


def _spent(taken: EstimateDocument | TotalDocument) -> list[str]:
    hours = taken["gpu_seconds"] / 3600
    gpus = [f"{hours:.0f} GPU-h" if hours >= 10 else f"{hours:.1f} GPU-h"] if hours else []
    return [quantities.duration(taken["seconds"]), *gpus]


def _heading(plan: PlanDocument) -> str:
    gpus = plan["gpus"]
    machine = f"{gpus} GPU{'s' if gpus > 1 else ''} here" if gpus else "no GPU here"
    spec = [Path(plan["spec"]).name]
    if plan["commit"] is not None:
        spec.append(f"spec {quantities.commit(plan['commit'])}")
    return " · ".join([plan["pipeline"], *spec, f"store {plan['store']}", machine])


def _although(stage: StageDocument) -> Iterator[str]:
    """What does not move a frozen stage."""
    if stage["pinned"]:
        yield f"pinned to {quantities.value(stage['key'])}"
    causes, waits = _causes(stage), _upstream(stage)
    moved = [f"although {_short(causes)}"] if causes else []
    if waits:
        moved.append(f"whatever comes of {', '.join(waits)}")
    if moved:
        yield f"stands {' and '.join(moved)}"


def _causes(stage: StageDocument) -> list[str]:
    """Sentences of what differs; what is pending is told otherwise."""
    return _sentences(stage["reasons"])


def _sentences(reasons: list[ReasonDocument]) -> list[str]:
    pending = (UPSTREAM_PENDING, *UNKNOWN_HERE)
    told = ((reason["code"], reason["text"]) for reason in reasons)
    return quantities.merged((code, text) for code, text in told if code not in pending)


def _upstream(stage: StageDocument) -> list[str]:
    waiting = (reason["after"] for reason in stage["reasons"] if reason["code"] == UPSTREAM_PENDING)
    return list(dict.fromkeys(port.rpartition(".")[0] for port in waiting))


def _short(parts: list[str], between: str = ", ") -> str:
    shown = between.join(parts[:SHOWN_REASONS])
    more = len(parts) - SHOWN_REASONS
    return f"{shown}{between}{more} more" if more > 0 else shown


def _has(stage: StageDocument, code: str) -> bool:
    return any(reason["code"] == code for reason in stage["reasons"])
