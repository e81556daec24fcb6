"""``rlhfc status``: where every stage of a pipeline stands, also while it runs."""

from __future__ import annotations

import argparse
import json

from rlhfc.cli.prepare import prepare
from rlhfc.explain.standing import standing_document, standing_lines, standings
from rlhfc.plan.planner import make_plan
from rlhfc.store.store import Store


def run(arguments: argparse.Namespace) -> int:
    """Print the table.

    Raises:
        UserError: the spec, an option, a source or the store is wrong.
    """
    prepared = prepare(arguments)
    store = Store.open(prepared.store, rehash=arguments.rehash)
    found = standings(make_plan(prepared.pipeline, store, prepared.world.libraries), store)
    if arguments.json:
        print(json.dumps(standing_document(found), indent=2, ensure_ascii=False))
    else:
        print("\n".join(standing_lines(found)))
    return 0
