"""Results that stand whatever changed: those of frozen and of pinned stages."""

from __future__ import annotations

from collections.abc import Collection, Mapping
from dataclasses import replace
from typing import Any, Protocol

from rlhfc.compile.action import Action, Pipeline
from rlhfc.errors import Diagnostic, UserError, listing
from rlhfc.store.records import ActionResult

DIGITS = len("b3:") + 64
SHOWN_KEYS = 3


class Results(Protocol):
    """What is asked of a store."""

    def lookup(self, key: str) -> ActionResult | None:
        """Result of an action, when all of it is there."""

    def key_document(self, key: str) -> Mapping[str, Any] | None:
        """What was kept beside a key."""

    def keys_from(self, start: str) -> list[str]:
        """Keys of results that begin so."""


def thaw(pipeline: Pipeline, stages: Collection[str]) -> Pipeline:
    """The pipeline with these stages neither frozen nor pinned.

    Raises:
        UserError: one of them is not.
    """
    idle = [name for name in stages if not pipeline.actions[name].held]
    if idle:
        hint = "leave it out: what is neither frozen nor pinned runs when it has to"
        raise UserError(Diagnostic(f"`--thaw {name}`: the stage is not frozen", hint=hint) for name in idle)
    free = {"frozen": False, "pin": None}
    actions = {
        name: replace(action, params=action.params.model_copy(update=free)) if name in stages else action
        for name, action in pipeline.actions.items()
    }
    return replace(pipeline, actions=actions)


def held_result(action: Action, last: str | None, store: Results) -> ActionResult:
    """The result that a frozen or pinned stage holds.

    Args:
        action: the stage.
        last: key of its last result in this pipeline.
        store: holds the results.

    Raises:
        UserError: there is none, or the pin means several, or that of another kind.
    """
    key = last if action.params.pin is None else _pinned_key(action, action.params.pin, last, store)
    if key is None:
        raise refusal(
            action,
            "it is frozen, and has no result in this pipeline yet",
            f"remove `frozen: true`, or let it run once with `--thaw {action.stage}`",
        )
    result = store.lookup(key)
    if result is None:
        raise refusal(
            action,
            f"the result under `{key}` is not whole in the store",
            f"let it run again with `--thaw {action.stage}`",
        )
    other = other_kind(action, result, store)
    if other is not None:
        hint = f"kind of this stage: `{action.kind.name}`"
        raise refusal(action, f"the result under `{key}` {other}", hint)
    return result


def other_kind(action: Action, result: ActionResult, store: Results) -> str | None:
    """How it shows that a result was made by a stage of another kind, or None."""
    kept = store.key_document(result.key) or {}
    kind = kept.get("document", {}).get("kind", action.kind.name)
    if kind != action.kind.name:
        return f"is one of kind `{kind}`"
    if set(result.outputs) != set(action.kind.outputs):
        return f"has other outputs: {listing(list(result.outputs))}"
    return None


def _pinned_key(action: Action, pin: str, last: str | None, store: Results) -> str:
    found = [pin] if len(pin) == DIGITS and store.lookup(pin) else store.keys_from(pin)
    if len(found) > 1:
        more = f" and {len(found) - SHOWN_KEYS} more" if len(found) > SHOWN_KEYS else ""
        hint = f"write more digits: {listing(found[:SHOWN_KEYS])}{more}"
        raise refusal(action, f"`{pin}` is the start of {len(found)} keys", hint)
    if not found:
        hint = f"its last result in this pipeline is `{last}`" if last else "remove `pin`"
        raise refusal(action, f"there is no result under `{pin}` in this store", hint)
    return found[0]


def refusal(action: Action, message: str, hint: str | None) -> UserError:
    """An error about a stage that holds a result, at the place that says so."""
    place = action.places.get("frozen" if action.params.pin is None else "pin")
    return UserError(Diagnostic(f"{action.stage}: {message}", place, hint))
