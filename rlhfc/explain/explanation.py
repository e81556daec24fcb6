"""Why a stage has its verdict, component by component: values only."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Protocol

from rlhfc.compile.action import Action, UpstreamOutput
from rlhfc.compile.impacts import leaves
from rlhfc.compile.keys import KeyDocument, Undecided, origins_in_key
from rlhfc.compile.reasons import PENDING, ReasonCode
from rlhfc.explain.components import Address, Change, Group, changes, components
from rlhfc.explain.from_ledger import Made, made_of, results_of
from rlhfc.plan.planner import Plan, StagePlan
from rlhfc.plan.words import sentences
from rlhfc.store.ledger_lines import Entry
from rlhfc.store.records import ActionResult

NEAREST = 3


class Results(Protocol):
    """What an explanation asks of a store."""

    def lookup(self, key: str) -> ActionResult | None:
        """Result of an action, when all of it is there."""

    def key_document(self, key: str) -> Mapping[str, Any] | None:
        """What was kept beside a key: ``document``, ``recorded`` and ``origins``."""


@dataclass(frozen=True)
class Waiting:
    """A component that is not known yet or here: an upstream's ``stage.port``, or why not."""

    group: Group
    path: str
    what: str


@dataclass(frozen=True)
class Recorded:
    """A value that differs and is not in the key, with its impact (``numeric``, ``runtime``, ``library``)."""

    path: str
    impact: str
    before: Any
    after: Any
    place: str | None


@dataclass(frozen=True)
class Earlier:
    """An earlier result: ``needs`` would have to be as it was then for the stage to be cached."""

    made: Made
    needs: tuple[Change, ...]


@dataclass(frozen=True)
class Explanation:
    """Everything behind a verdict.

    Attributes:
        planned: the verdict.
        now: components of the key as they are; the pending ones are missing.
        changes: components that are not those of the last result.
        waiting: components that are pending.
        places: where the values of ``now`` are written, by path.
        sources: input address to what it comes from: ``sft.model``, ``path:rows.jsonl``.
        recorded: what differs without invalidating.
        values: numeric and runtime values by path.
        impacts: path to impact of each leaf, and of the settings that the stage reads from others.
        last: the result of a stage that has one, else the last in this pipeline with what is left of it.
        earlier: the nearest earlier results.
        causes: the plan's reasons in words.
    """

    planned: StagePlan
    now: Mapping[Address, Any]
    changes: tuple[Change, ...]
    waiting: tuple[Waiting, ...]
    places: Mapping[str, str]
    sources: Mapping[str, str]
    recorded: tuple[Recorded, ...]
    values: Mapping[str, Any]
    impacts: Mapping[str, str]
    last: tuple[Made, ActionResult | None] | None
    earlier: tuple[Earlier, ...]
    causes: tuple[str, ...]

    @property
    def total(self) -> int:
        """How many components the key has."""
        return len(self.now) + len(self.waiting)

    def impact(self, address: Address) -> str:
        """Impact of a component: a setting's own, which may be numeric where a spec is strict."""
        return self.impacts.get(address[1], "semantic") if address[0] is Group.SETTING else "semantic"

    def identical(self, group: Group) -> list[Address]:
        """Components of a group that are as they were."""
        changed = {(change.group, change.path) for change in self.changes}
        return [address for address in self.now if address[0] is group and address not in changed]


def explain(plan: Plan, stage: str, store: Results, entries: Sequence[Entry]) -> Explanation:
    """Take one verdict of a plan apart.

    Args:
        plan: the verdicts.
        stage: one of its stages.
        store: results and key documents.
        entries: the ledger's.
    """
    action, planned, known = plan.pipeline.actions[stage], plan.stages[stage], plan.stages[stage].known
    assert known is not None, "a stage that is skipped is not explained"
    now, places = components(known.document, action.inputs), origins_in_key(action)
    waiting = _waiting(known)
    past = results_of(entries, plan.pipeline.name, stage)
    last = _last(planned, past, entries, store)
    kept = store.key_document(last[0].key) if last is not None else None
    pending = {(item.group, item.path) for item in waiting}
    found = _compared(kept, now, places, pending) if kept is not None and "document" in kept else []
    impacts = _impacts(action)
    return Explanation(
        planned=planned,
        now=now,
        changes=tuple(found),
        waiting=waiting,
        places=places,
        sources={address: _source(action, address) for address in action.inputs},
        recorded=_recorded(planned, impacts, places),
        values=known.recorded,
        impacts=impacts,
        last=last,
        earlier=() if planned.result is not None else _nearest(past, now, places, store),
        causes=tuple(sentences(reason for reason in planned.reasons if reason.code not in PENDING)),
    )


def _last(
    planned: StagePlan, past: Sequence[Made], entries: Sequence[Entry], store: Results
) -> tuple[Made, ActionResult | None] | None:
    if planned.result is not None:
        return made_of(entries, planned.result.key), planned.result
    return (past[0], store.lookup(past[0].key)) if past else None


def _impacts(action: Action) -> dict[str, str]:
    found = {f"params.{leaf.address}": str(leaf.impact) for leaf in leaves(action.params)}
    for address, source in action.settings.items():
        found |= {f"settings.{address}.{leaf.address}": str(leaf.impact) for leaf in leaves(source.params)}
    return found


def _waiting(known: KeyDocument | Undecided) -> tuple[Waiting, ...]:
    if isinstance(known, KeyDocument):
        return ()
    libraries = (ReasonCode.LIBRARY_MISSING,)
    return tuple(
        Waiting(Group.LIBRARY, reason.path, "it is not installed here")
        if reason.code in libraries
        else Waiting(Group.INPUT, reason.path, str(reason.after))
        for reason in known.reasons
    )


def _compared(
    kept: Mapping[str, Any],
    now: Mapping[Address, Any],
    places: Mapping[str, str],
    pending: set[Address],
) -> list[Change]:
    return changes(components(kept["document"]), now, (kept.get("origins", {}), places), pending)


def _source(action: Action, address: str) -> str:
    binding = action.inputs[address]
    return f"{binding.stage}.{binding.port}" if isinstance(binding, UpstreamOutput) else binding.origin


def _recorded(
    planned: StagePlan, impacts: Mapping[str, str], places: Mapping[str, str]
) -> tuple[Recorded, ...]:
    return tuple(
        Recorded(
            path=found.path,
            impact=impacts.get(found.path, "library"),
            before=found.before,
            after=found.after,
            place=places.get(found.path),
        )
        for found in planned.differences
    )


def _nearest(
    past: Sequence[Made], now: Mapping[Address, Any], places: Mapping[str, str], store: Results
) -> tuple[Earlier, ...]:
    """Earlier results that are still whole, those that need the least first, then the newest."""
    found = []
    for made in past:
        kept = store.key_document(made.key)
        if kept is not None and "document" in kept:
            # What is pending counts as well: it would have to come out as it was.
            found.append(Earlier(made, tuple(_compared(kept, now, places, set()))))
    found.sort(key=lambda earlier: len(earlier.needs))
    whole = (earlier for earlier in found if earlier.needs and store.lookup(earlier.made.key) is not None)
    return tuple(earlier for _, earlier in zip(range(NEAREST), whole, strict=False))
