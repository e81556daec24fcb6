"""``rlhfc pull``: take results from a shared store."""

from __future__ import annotations

import argparse
import sys

from rlhfc.cli.sharing import (
    NO_RESULT,
    KeyList,
    Outcome,
    Outcomes,
    check_named,
    place_named,
    planned_for,
    say,
    unusable,
)
from rlhfc.environment import read_environment
from rlhfc.plan.planner import Plan
from rlhfc.plan.verdict import Verdict
from rlhfc.remote.place import Place, RemoteError
from rlhfc.remote.progress import Tally
from rlhfc.remote.pull import Finder, Puller
from rlhfc.remote.record import RefusedError
from rlhfc.remote.source import Both, Source, signers_of
from rlhfc.store.digest import DIGEST
from rlhfc.store.store import Store


def run(arguments: argparse.Namespace) -> int:
    """Pull what is named. The status is 1 when something was refused or is not there.

    Raises:
        UserError: the spec, an option, the store or the shared store is wrong.
    """
    check_named(arguments)
    environment = read_environment()
    place, signers = place_named(arguments.source, "--from", environment), signers_of(environment)
    faults: list[str] = []
    outcomes = Outcomes(as_json=arguments.json)
    try:
        if arguments.spec is not None:
            reader = Both(Store.open(arguments.store), Source(place, signers, faults.append))
            plan = planned_for(arguments, reader)
            named = _stages(plan)
        else:
            plan, named = None, [(key, key) for key in arguments.key or _all_keys(place)]
        store, finder = Store.create(arguments.store), Finder(place, signers)
        puller = Puller(store, finder, place.name, Tally(say))
        for name, key in named:
            outcomes.add(_pull(puller, store, finder, name, key))
    except RemoteError as error:
        raise unusable(place, error) from error
    if plan is not None:
        _note(plan, store)
    for fault in faults:
        print(f"error: {fault}", file=sys.stderr)
    outcomes.end("pulled from", place, puller.tally)
    return 1 if outcomes.failed or faults else 0


def _pull(puller: Puller, store: Store, finder: Finder, name: str, key: str | None) -> Outcome:
    if key is None:
        return Outcome(name, key, "not there")
    if store.lookup(key) is not None:
        return Outcome(name, key, "here already")
    try:
        record = finder.find(key)
        if record is None:
            return Outcome(name, key, "missing", NO_RESULT)
        puller.take(record)
    except RefusedError as error:
        return Outcome(name, key, "refused", f"not pulled: {error}")
    except OSError as error:
        return Outcome(name, key, "refused", f"not pulled: {error.strerror or error}")
    return Outcome(name, key, "pulled")


def _stages(plan: Plan) -> KeyList:
    """Stages, each with the key of its result where that is here or there."""
    return [(name, each.result.key if each.result else None) for name, each in plan.stages.items()]


def _note(plan: Plan, store: Store) -> None:
    """Note in the ledger that these results are those of the stages now, as a run would."""
    pipeline = plan.pipeline.name
    for name, planned in plan.stages.items():
        if planned.verdict is Verdict.RESTORE and planned.key is not None and store.lookup(planned.key):
            store.ledger.append("cached", pipeline=pipeline, stage=name, key=planned.key)


def _all_keys(place: Place) -> list[str]:
    """Keys of all records that are there; a name that is none's is left out."""
    found = (f"b3:{name.removesuffix('.json').replace('/', '')}" for name in place.names("actions"))
    return [key for key in found if DIGEST.match(key)]
