"""Saved plans: what ``rlhfc plan -o`` writes, and whether it still holds when ``rlhfc run`` is given it.

A saved plan is not carried out from the file: it is made again with the same options and compared,
part by part of every key. The plan's own progress does not make it stale: a stage that was to run
and has its result under the same key meanwhile is done, so an interrupted run of a saved plan is
continued by the same command.
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterator, Mapping
from dataclasses import asdict, dataclass
from datetime import datetime
from typing import Any

from rlhfc.compile.action import Action, ResolvedSource, UpstreamOutput
from rlhfc.compile.reasons import Reason, ReasonCode
from rlhfc.errors import Diagnostic, UserError
from rlhfc.plan.compare import changes_between, differences_between
from rlhfc.plan.planner import Plan, StagePlan, Verdict
from rlhfc.plan.quantities import arrow, difference, merged
from rlhfc.plan.words import sentence
from rlhfc.store.digest import tagged_digest

FORMAT = 1
TAG = b"rlhfc-plan\0v1\0"
MARK = re.compile(rb'\s*\{\s*"saved_plan"\s*:')
OPEN = frozenset({Verdict.RUN, Verdict.RESUME, Verdict.UNDECIDED})
PROGRESS = OPEN | {Verdict.CACHED, Verdict.RESTORE}


@dataclass(frozen=True)
class SavedPlan:
    """A plan as it was when it was saved.

    Attributes:
        made: UTC time, ISO 8601.
        command: what makes it again.
        options: what it was made with, by name of the option.
        plan: its document, for people and tools.
        stages: what each key was made of, see :func:`saved_stages`.
    """

    made: str
    command: str
    options: Mapping[str, Any]
    plan: Mapping[str, Any]
    stages: Mapping[str, Mapping[str, Any]]


def saved_stages(plan: Plan) -> dict[str, Mapping[str, Any]]:
    """What is compared of each stage, as plain values."""
    return {name: _parts(planned, plan.pipeline.actions[name]) for name, planned in plan.stages.items()}


def _parts(planned: StagePlan, action: Action) -> dict[str, Any]:
    """Verdict and result, the parts of the key, and the inputs: where from, and which are not known yet."""
    return {
        "verdict": planned.verdict.value,
        "document": planned.known.document if planned.known else {},
        "recorded": planned.known.recorded if planned.known else {},
        "waiting": [reason.path for reason in planned.reasons if reason.code is ReasonCode.UPSTREAM_PENDING],
        "unresolved": [
            reason.path for reason in planned.reasons if reason.code is ReasonCode.SOURCE_UNRESOLVED
        ],
        "origins": {address: _origin(binding) for address, binding in action.inputs.items()},
        "result": planned.result.key if planned.result else None,
    }


def _origin(binding: UpstreamOutput | ResolvedSource) -> str:
    return binding.origin if isinstance(binding, ResolvedSource) else f"{binding.stage}.{binding.port}"


def is_saved(start: bytes) -> bool:
    """Whether a file with this beginning is a saved plan, of whatever format, and no spec."""
    return MARK.match(start) is not None


def encode(saved: SavedPlan) -> bytes:
    """The file's bytes; the format comes first, because files are known by it."""
    body = asdict(saved)
    content = {"saved_plan": FORMAT, "check": tagged_digest(TAG, body), **body}
    return (json.dumps(content, indent=1, ensure_ascii=False) + "\n").encode()


def decode(data: bytes, name: str) -> SavedPlan:
    """Read a saved plan back.

    Args:
        data: the file's bytes.
        name: the file's, for messages.

    Raises:
        UserError: it is not whole, or of another format.
    """
    hint = f"make it again: `rlhfc plan SPEC -o {name}`"
    try:
        content = json.loads(data)
    except ValueError as error:
        raise UserError(Diagnostic(f"the saved plan `{name}` is not whole", hint=hint)) from error
    if (found := content.pop("saved_plan")) != FORMAT:
        message = f"the saved plan `{name}` has format {found}; this rlhfc reads format {FORMAT}"
        raise UserError(Diagnostic(message, hint=hint))
    if content.pop("check", None) != tagged_digest(TAG, content):
        raise UserError(Diagnostic(f"the saved plan `{name}` is not what was saved", hint=hint))
    return SavedPlan(**content)


def check_fresh(saved: SavedPlan, plan: Plan) -> None:
    """Refuse a saved plan that no longer holds, given the same made again.

    Raises:
        UserError: something that matters has changed; it says what, stage by stage.
    """
    found = [(stage, text) for stage, texts in _changes(saved, plan) for text in texts]
    if found:
        width = max(len(stage) for stage, _ in found)
        since = f"{datetime.fromisoformat(saved.made):%Y-%m-%d %H:%M} UTC"
        lines = [f"saved plan is stale: since {since}", *(f"  {at:<{width}}  {text}" for at, text in found)]
        hint = f"look at what would run now, and save that: `{saved.command}`"
        raise UserError(Diagnostic("\n".join(lines), hint=hint))


def _changes(saved: SavedPlan, plan: Plan) -> Iterator[tuple[str, list[str]]]:
    for name, then in saved.stages.items():
        now = plan.stages.get(name)
        yield name, ["is gone"] if now is None else _stage_changes(then, now, plan.pipeline.actions[name])
    yield from ((name, ["is new"]) for name in plan.stages if name not in saved.stages)


def _stage_changes(then: Mapping[str, Any], now: StagePlan, action: Action) -> list[str]:
    parts = _parts(now, action)
    # What a stage upstream makes is open until that has run; if it has to run again, that is told there.
    waiting = frozenset([*then["waiting"], *parts["waiting"], *_resolved(then, parts)])
    reasons = changes_between(then["document"], parts["document"], waiting)
    texts = merged((reason.code, _told(reason, then["origins"], parts["origins"])) for reason in reasons)
    texts = list(dict.fromkeys([*texts, *_rewired(then, parts)]))
    if Verdict(then["verdict"]) in OPEN:
        found = differences_between(then["recorded"], parts["recorded"])
        texts += [difference(each.path, each.before, each.after) for each in found]
    if not texts and then["result"] and parts["result"] and then["result"] != parts["result"]:
        texts.append(f"held result {arrow(then['result'], parts['result'])}")
    if not texts and not _is_progress(then, now):
        why = [sentence(reason) for reason in now.reasons]
        texts.append(": ".join([arrow(then["verdict"], now.verdict.value), *why[:1]]))
    return texts


def _resolved(then: Mapping[str, Any], now: Mapping[str, Any]) -> Iterator[str]:
    """Hub sources whose commit was not known: a run of the plan asks for it."""
    inputs = now["document"].get("inputs", {})
    yield from (address for address in then["unresolved"] if inputs.get(address, "hub:").startswith("hub:"))


def _rewired(then: Mapping[str, Any], now: Mapping[str, Any]) -> Iterator[str]:
    """Inputs that come from elsewhere, where what they hold is not known on both sides."""
    before, after = (side["document"].get("inputs", {}) for side in (then, now))
    for address, origin in now["origins"].items():
        was = then["origins"].get(address, origin)
        if was != origin and (address not in before or address not in after):
            yield f"input {address} {arrow(was, origin)}"


def _is_progress(then: Mapping[str, Any], now: StagePlan) -> bool:
    if then["verdict"] == now.verdict:
        return True
    if Verdict(then["verdict"]) is Verdict.RESTORE:
        return now.verdict is Verdict.CACHED
    return Verdict(then["verdict"]) in OPEN and now.verdict in PROGRESS


def _told(reason: Reason, then: Mapping[str, str], now: Mapping[str, str]) -> str:
    """A reason in words; a source is called by its name, what a stage makes only when it is another's."""
    before, after = then.get(reason.path), now.get(reason.path)
    if reason.code is not ReasonCode.INPUT_CHANGED or before is None or after is None:
        return sentence(reason)
    if before != after:
        return f"input {reason.path} {arrow(before, after)}"
    if ":" not in after:
        return sentence(reason)
    return f"`{after.removeprefix('path:')}` changed: {sentence(reason)}"
