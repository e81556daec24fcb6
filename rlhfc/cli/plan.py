"""``rlhfc plan``: what a run would do, and why. Nothing is launched."""

from __future__ import annotations

import argparse
import json
from datetime import UTC, datetime

from rlhfc.cli.options import Prepared, add_pipeline_options, prepare
from rlhfc.cli.stages import check_stages
from rlhfc.plan.document import plan_document
from rlhfc.plan.planner import Plan, make_plan
from rlhfc.plan.rendering import rendered, rendered_lines
from rlhfc.plan.text import plan_lines
from rlhfc.store.store import Store

CHANGES = 2


def configure(parser: argparse.ArgumentParser) -> None:
    """Add the command's arguments."""
    add_pipeline_options(parser)
    parser.add_argument("--json", action="store_true", help="print the plan as JSON")
    parser.add_argument(
        "--detailed-exitcode", action="store_true", help="exit with 2 when there is something to do"
    )
    parser.add_argument(
        "--show",
        metavar="STAGE",
        nargs="*",
        help="print command, resolved config and DeepSpeed configs of these stages, or of all",
    )
    parser.add_argument(
        "--force", metavar="STAGE", action="append", default=[], help="plan to run it anyway; may be repeated"
    )


def run(arguments: argparse.Namespace) -> int:
    """Print the plan. The status is 0, or 2 for changes with ``--detailed-exitcode``.

    Raises:
        UserError: the spec, an option, a source or the store is wrong.
    """
    prepared = prepare(arguments)
    check_stages("--force", arguments.force, prepared.pipeline)
    check_stages("--show", arguments.show or [], prepared.pipeline)
    plan = make_plan(prepared.pipeline, Store.open(prepared.store), prepared.world.libraries, arguments.force)
    shown = None if arguments.show is None else arguments.show or list(plan.stages)
    print(_as_json(plan, shown) if arguments.json else _as_text(plan, prepared, shown))
    return CHANGES if arguments.detailed_exitcode and not plan.nothing_to_do else 0


def _as_json(plan: Plan, shown: list[str] | None) -> str:
    document = plan_document(plan)
    for stage in document["stages"]:
        if shown is not None and stage["stage"] in shown:
            stage["rendered"] = rendered(plan.pipeline.actions[stage["stage"]], stage["key"])
    return json.dumps(document, indent=2, ensure_ascii=False)


def _as_text(plan: Plan, prepared: Prepared, shown: list[str] | None) -> str:
    gpus = prepared.world.gpus
    machine = f"{gpus} GPU{'s' if gpus > 1 else ''} here" if gpus else "no GPU here"
    heading = f"{prepared.pipeline.spec.name} · store {prepared.store} · {machine}"
    lines = plan_lines(plan, heading, datetime.now(UTC))
    for name in shown or ():
        what = rendered(plan.pipeline.actions[name], plan.stages[name].key)
        lines += ["", *rendered_lines(name, what)]
    return "\n".join(lines)
