"""A plan as lines for people."""

from __future__ import annotations

from collections.abc import Iterator
from datetime import datetime

from rlhfc.compile.action import Action, ResolvedSource
from rlhfc.compile.reasons import PENDING, Reason, ReasonCode
from rlhfc.errors import listing
from rlhfc.plan import words
from rlhfc.plan.planner import Plan, StagePlan, Verdict

SHOWN_REASONS = 3


def plan_lines(plan: Plan, heading: str, now: datetime) -> list[str]:
    """Heading, one line for each stage, the sum, and hints about what could not be known.

    Args:
        plan: the verdicts.
        heading: what stands after the pipeline's name, for example spec and store.
        now: with a time zone; ages are told from it.
    """
    names = max(map(len, plan.stages))
    verdicts = max(len(stage.verdict) for stage in plan.stages.values())
    lines = [f"{plan.pipeline.name} · {heading}", ""]
    for stage in plan.stages.values():
        head = f"  {symbol(stage)}  {stage.stage:<{names}}  {stage.verdict:<{verdicts}}"
        lines.append(f"{head}  {explanation(stage, now)}")
    lines += ["", summary(plan)]
    lines += [f"hint: {hint}" for hint in _hints(plan)]
    return lines


def symbol(stage: StagePlan) -> str:
    """One character for what happens: ``=`` nothing, ``+`` first result, ``±`` new result."""
    if stage.verdict is Verdict.RUN:
        return "+" if _has(stage, ReasonCode.NEVER_RUN) else "±"
    return {Verdict.CACHED: "=", Verdict.RESUME: "↻", Verdict.UNDECIDED: "?"}[stage.verdict]


def explanation(stage: StagePlan, now: datetime) -> str:
    """Why a stage has its verdict, in one line."""
    differing = [words.difference(found) for found in stage.differences]
    harmless = [f"no rerun for {_short(differing)}"] if differing else []
    if stage.verdict is Verdict.CACHED:
        assert stage.result is not None
        made = f"{words.ago(stage.result.finished, now)}, took {words.duration(stage.result.seconds)}"
        return "; ".join([f"{made}, {words.size(stage.result.size)}", *harmless])
    causes = [reason for reason in stage.reasons if reason.code not in PENDING]
    told = _short(words.sentences(causes), "; ")
    if stage.verdict is Verdict.RESUME:
        assert stage.checkpoint is not None
        step, total = stage.checkpoint
        why = "" if _has(stage, ReasonCode.NEVER_RUN) else f"; {told}"
        return f"at step {step} of {total}{why}"
    waits = _upstream(stage)
    if stage.verdict is Verdict.RUN:
        return f"{told} (after {', '.join(waits)})" if waits else told
    pending = [f"after {', '.join(waits)}, if what it reads changes"] if waits else []
    if _has(stage, ReasonCode.LIBRARY_MISSING) or _has(stage, ReasonCode.SOURCE_UNRESOLVED):
        pending.append("its key cannot be known here")
    return "; ".join([*([told] if told else []), *pending, *harmless])


def summary(plan: Plan) -> str:
    """How many stages have each verdict."""
    if plan.nothing_to_do:
        count = len(plan.stages)
        return f"Nothing to do: {count} stage{'s' if count > 1 else ''} cached"
    parts = {
        "to run": plan.count(Verdict.RUN),
        "to resume": plan.count(Verdict.RESUME),
        "undecided": plan.count(Verdict.UNDECIDED),
        "cached": plan.count(Verdict.CACHED),
    }
    return "Plan: " + ", ".join(f"{count} {what}" for what, count in parts.items() if count)


def _hints(plan: Plan) -> Iterator[str]:
    """What keeps keys from being known here, each once."""
    reasons = [reason for stage in plan.stages.values() for reason in stage.reasons]
    missing = _paths(reasons, ReasonCode.LIBRARY_MISSING)
    if missing:
        are = "are" if len(missing) > 1 else "is"
        yield f"{listing(missing)} {are} not installed here: keys are known where the stages can run"
    unresolved = dict.fromkeys(
        reason.after for reason in reasons if reason.code is ReasonCode.SOURCE_UNRESOLVED
    )
    if len(unresolved) == 1:
        yield from unresolved
    elif unresolved:
        ids = (binding.hub for action in plan.pipeline.actions.values() for binding in _unresolved(action))
        names = listing(list(dict.fromkeys(hub[0] for hub in ids if hub is not None)))
        way_out = "pin them with `revision:` (40 hex digits) or use `--mirror`"
        yield f"commits of {names} are not known here: {way_out}"


def _unresolved(action: Action) -> list[ResolvedSource]:
    sources = (binding for binding in action.inputs.values() if isinstance(binding, ResolvedSource))
    return [source for source in sources if source.digest is None]


def _paths(reasons: list[Reason], code: ReasonCode) -> list[str]:
    return list(dict.fromkeys(reason.path for reason in reasons if reason.code is code))


def _upstream(stage: StagePlan) -> list[str]:
    waiting = (reason.after for reason in stage.reasons if reason.code is ReasonCode.UPSTREAM_PENDING)
    return list(dict.fromkeys(port.partition(".")[0] for port in waiting))


def _short(parts: list[str], between: str = ", ") -> str:
    shown = between.join(parts[:SHOWN_REASONS])
    more = len(parts) - SHOWN_REASONS
    return f"{shown}{between}{more} more" if more > 0 else shown


def _has(stage: StagePlan, code: ReasonCode) -> bool:
    return any(reason.code is code for reason in stage.reasons)
