"""A plan as lines for people, made from its document alone."""

from __future__ import annotations

from datetime import datetime
from pathlib import Path

from rlhfc.plan import quantities
from rlhfc.plan.document import PlanDocument, StageDocument

SHOWN_REASONS = 3
NEVER_RUN = "never_run"
UPSTREAM_PENDING = "upstream_pending"
UNKNOWN_HERE = ("source_unresolved", "library_missing")
SYMBOLS = {"cached": "=", "resume": "↻", "undecided": "?"}
VERDICTS = {"run": "to run", "resume": "to resume", "undecided": "undecided", "cached": "cached"}


def plan_lines(plan: PlanDocument, now: datetime) -> list[str]:
    """Heading, one line for each stage, the sum, and hints about what could not be known.

    Args:
        plan: the verdicts.
        now: with a time zone; ages are told from it.
    """
    stages = plan["stages"]
    names = max(len(stage["stage"]) for stage in stages)
    verdicts = max(len(stage["verdict"]) for stage in stages)
    lines = [_heading(plan), ""]
    for stage in stages:
        head = f"  {symbol(stage)}  {stage['stage']:<{names}}  {stage['verdict']:<{verdicts}}"
        lines.append(f"{head}  {explanation(stage, now)}")
    lines += ["", summary(plan)]
    lines += [f"hint: {hint}" for hint in plan["hints"]]
    return lines


def symbol(stage: StageDocument) -> str:
    """One character for what happens: ``=`` nothing, ``+`` first result, ``±`` new result."""
    if stage["verdict"] == "run":
        return "+" if _has(stage, NEVER_RUN) else "±"
    return SYMBOLS[stage["verdict"]]


def explanation(stage: StageDocument, now: datetime) -> str:
    """Why a stage has its verdict, in one line."""
    differing = [quantities.difference(**found) for found in stage["differences"]]
    harmless = [f"no rerun for {_short(differing)}"] if differing else []
    if (result := stage["result"]) is not None:
        made = f"{quantities.ago(result['finished'], now)}, took {quantities.duration(result['seconds'])}"
        return "; ".join([f"{made}, {quantities.size(result['size'])}", *harmless])
    told = _short(_causes(stage), "; ")
    if (resume := stage["resume"]) is not None:
        why = "" if _has(stage, NEVER_RUN) else f"; {told}"
        return f"at step {resume['step']} of {resume['total']}{why}"
    waits = _upstream(stage)
    if stage["verdict"] == "run":
        return f"{told} (after {', '.join(waits)})" if waits else told
    pending = [f"after {', '.join(waits)}, if what it reads changes"] if waits else []
    if any(_has(stage, code) for code in UNKNOWN_HERE):
        pending.append("its key cannot be known here")
    return "; ".join([*([told] if told else []), *pending, *harmless])


def summary(plan: PlanDocument) -> str:
    """How many stages have each verdict."""
    if not plan["changes"]:
        count = len(plan["stages"])
        return f"Nothing to do: {count} stage{'s' if count > 1 else ''} cached"
    parts = {words: plan["summary"][verdict] for verdict, words in VERDICTS.items()}
    return "Plan: " + ", ".join(f"{count} {what}" for what, count in parts.items() if count)


def _heading(plan: PlanDocument) -> str:
    gpus = plan["gpus"]
    machine = f"{gpus} GPU{'s' if gpus > 1 else ''} here" if gpus else "no GPU here"
    return f"{plan['pipeline']} · {Path(plan['spec']).name} · store {plan['store']} · {machine}"


def _causes(stage: StageDocument) -> list[str]:
    """Sentences of what differs; what is pending is told otherwise."""
    pending = (UPSTREAM_PENDING, *UNKNOWN_HERE)
    reasons = ((reason["code"], reason["text"]) for reason in stage["reasons"])
    return quantities.merged((code, text) for code, text in reasons if code not in pending)


def _upstream(stage: StageDocument) -> list[str]:
    waiting = (reason["after"] for reason in stage["reasons"] if reason["code"] == UPSTREAM_PENDING)
    return list(dict.fromkeys(port.rpartition(".")[0] for port in waiting))


def _short(parts: list[str], between: str = ", ") -> str:
    shown = between.join(parts[:SHOWN_REASONS])
    more = len(parts) - SHOWN_REASONS
    return f"{shown}{between}{more} more" if more > 0 else shown


def _has(stage: StageDocument, code: str) -> bool:
    return any(reason["code"] == code for reason in stage["reasons"])
