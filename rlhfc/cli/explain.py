"""``rlhfc explain``: why a stage has its verdict, component by component of its key."""

from __future__ import annotations

import argparse
import json
from datetime import UTC, datetime

from rlhfc.cli.prepare import prepare
from rlhfc.cli.stages import one_stage
from rlhfc.explain.documents import explanation_document
from rlhfc.explain.explanation import explain
from rlhfc.explain.text import explanation_lines, key_lines
from rlhfc.plan.planner import make_plan
from rlhfc.store.store import Store


def run(arguments: argparse.Namespace) -> int:
    """Print the explanation.

    Raises:
        UserError: the spec, an option, a source or the store is wrong.
    """
    prepared = prepare(arguments)
    stage = one_stage("explain", arguments.stage, prepared.pipeline)
    store = Store.open(prepared.store, rehash=arguments.rehash)
    plan = make_plan(prepared.pipeline, store, prepared.world.libraries)
    found = explain(plan, stage, store, store.ledger.read())
    if arguments.json:
        print(json.dumps(explanation_document(found), indent=2, ensure_ascii=False))
    else:
        lines = key_lines(found) if arguments.key else explanation_lines(found, datetime.now(UTC))
        print("\n".join(lines))
    return 0
