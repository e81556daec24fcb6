"""``rlhfc push``: send results to a shared store."""

from __future__ import annotations

import argparse

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
from rlhfc.remote.place import RemoteError
from rlhfc.remote.progress import Tally
from rlhfc.remote.push import Pushed, Pusher
from rlhfc.remote.record import RefusedError
from rlhfc.remote.sign import read_signer
from rlhfc.store.records import DamagedRecordError
from rlhfc.store.store import Store


def run(arguments: argparse.Namespace) -> int:
    """Push what is named. The status is 1 when something could not be pushed.

    Raises:
        UserError: the spec, an option, the store or the shared store is wrong.
    """
    check_named(arguments)
    environment = read_environment()
    place = place_named(arguments.to, "--to", environment)
    signer = read_signer(environment.signing_key) if environment.signing_key is not None else None
    store = Store.open(arguments.store)
    pusher = Pusher(store, place, signer, Tally(say))
    outcomes = Outcomes(as_json=arguments.json)
    try:
        for name, key in _named(arguments, store):
            outcomes.add(_push(pusher, store, name, key))
    except RemoteError as error:
        raise unusable(place, error) from error
    outcomes.end("pushed to", place, pusher.tally)
    return 1 if outcomes.failed else 0


def _push(pusher: Pusher, store: Store, name: str, key: str | None) -> Outcome:
    result = store.lookup(key) if key is not None else None
    if result is None and name == key:
        return Outcome(name, key, "missing", NO_RESULT)
    if result is None:
        return Outcome(name, key, "no result yet")
    try:
        ended = pusher.push(result)
    except (DamagedRecordError, RefusedError) as error:
        return Outcome(name, key, "refused", f"not pushed: {error}")
    return Outcome(name, key, str(ended), str(ended) if ended is Pushed.OTHER else None)


def _named(arguments: argparse.Namespace, store: Store) -> KeyList:
    """What is to be pushed, each with the name that it is told by."""
    if arguments.key:
        return [(key, key) for key in arguments.key]
    if arguments.spec is None:
        starts = (f"b3:{number:02x}" for number in range(256))
        return [(key, key) for start in starts for key in store.keys_from(start)]
    plan = planned_for(arguments, store)
    return [(name, each.result.key if each.result else None) for name, each in plan.stages.items()]
