"""``rlhfc plan``: what a run would do, and why. Nothing is launched.

A plan that is known already is shown without the compiler: until then only the standard library
may be imported.
"""

from __future__ import annotations

import argparse
import json
import sys
import time
from datetime import UTC, datetime
from typing import Any

from rlhfc.cli.options import add_pipeline_options, add_thaw
from rlhfc.observe import observed
from rlhfc.plan.document import PlanDocument
from rlhfc.plan.memo import keep, question, recall
from rlhfc.plan.text import plan_lines

CHANGES = 2
Rendered = dict[str, dict[str, Any]]
FORM = ("json", "detailed_exitcode", "show", "command")  # how a plan is shown is no part of it


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
    add_thaw(parser)


def run(arguments: argparse.Namespace) -> int:
    """Print the plan. The status is 0, or 2 for changes with ``--detailed-exitcode``.

    Raises:
        UserError: the spec, an option, a source or the store is wrong.
    """
    options = {name: value for name, value in vars(arguments).items() if name not in FORM}
    asked = question(options)
    document = recall(str(arguments.store), asked) if arguments.show is None else None
    shown: Rendered = {}
    if document is None:
        from rlhfc.cli.afresh import plan_afresh

        began = time.time_ns()
        with observed() as paths:
            document, shown = plan_afresh(arguments)
        keep(str(arguments.store), asked, paths, document, began)
    for warning in document["warnings"]:
        print(f"warning: {warning}", file=sys.stderr)
    print(_as_json(document, shown) if arguments.json else _as_text(document, shown))
    return CHANGES if arguments.detailed_exitcode and document["changes"] else 0


def _as_json(document: PlanDocument, shown: Rendered) -> str:
    stages = [
        {**stage, "rendered": shown[stage["stage"]]} if stage["stage"] in shown else stage
        for stage in document["stages"]
    ]
    return json.dumps({**document, "stages": stages}, indent=2, ensure_ascii=False)


def _as_text(document: PlanDocument, shown: Rendered) -> str:
    lines = plan_lines(document, datetime.now(UTC))
    if shown:
        from rlhfc.plan.rendering import rendered_lines

        for name, what in shown.items():
            lines += ["", *rendered_lines(name, what)]
    return "\n".join(lines)
