"""``rlhfc explain``: why a stage has its verdict, component by component of its key."""

from __future__ import annotations

import argparse
import json
from datetime import UTC, datetime

from rlhfc.cli.options import add_pipeline_options
from rlhfc.cli.prepare import prepare
from rlhfc.cli.stages import check_stages
from rlhfc.explain.documents import explanation_document
from rlhfc.explain.explanation import explain
from rlhfc.explain.text import explanation_lines, key_lines
from rlhfc.plan.planner import make_plan
from rlhfc.store.store import Store


def configure(parser: argparse.ArgumentParser) -> None:
    """Add the command's arguments."""
    add_pipeline_options(parser)
    parser.add_argument("stage", metavar="STAGE", help="the stage to explain")
    form = parser.add_mutually_exclusive_group()
    form.add_argument("--key", action="store_true", help="list what the key is made of, one component a line")
    form.add_argument("--json", action="store_true", help="print everything as JSON")


def run(arguments: argparse.Namespace) -> int:
    """Print the explanation.

    Raises:
        UserError: the spec, an option, a source or the store is wrong.
    """
    prepared = prepare(arguments)
    check_stages("explain", [arguments.stage], prepared.pipeline)
    store = Store.open(prepared.store)
    libraries = prepared.world.libraries
    plan = make_plan(prepared.pipeline, store, libraries)
    found = explain(plan, arguments.stage, libraries, store, store.ledger.read())
    if arguments.json:
        print(json.dumps(explanation_document(found), indent=2, ensure_ascii=False))
    else:
        lines = key_lines(found) if arguments.key else explanation_lines(found, datetime.now(UTC))
        print("\n".join(lines))
    return 0
