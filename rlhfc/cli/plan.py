"""``rlhfc plan``: what a run would do, and why. Nothing is launched.

A plan that is known already is shown without the compiler: until then only the standard library
may be imported.
"""

from __future__ import annotations

import argparse
import gc
import json
import os
import sys
import time
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from rlhfc.observe import observed
from rlhfc.plan.document import PlanDocument
from rlhfc.plan.memo import keep, question, recall
from rlhfc.plan.text import plan_lines

CHANGES = 2
Rendered = dict[str, dict[str, Any]]
# How a plan is shown is no part of it.
FORM = ("json", "detailed_exitcode", "show", "output", "command", "rehash")


def run(arguments: argparse.Namespace) -> int:
    """Print the plan. The status is 0, or 2 for changes with ``--detailed-exitcode``.

    Raises:
        UserError: the spec, an option, a source or the store is wrong.
    """
    options = {name: value for name, value in vars(arguments).items() if name not in FORM}
    asked = question(options)
    afresh = arguments.rehash or arguments.show is not None or arguments.output is not None
    afresh = afresh or arguments.remote  # what others have pushed leaves no trace here
    document = None if afresh else recall(str(arguments.store), asked)
    shown: Rendered = {}
    if document is None:
        gc.disable()  # all that is made here lives until the process ends
        from rlhfc.cli.afresh import plan_afresh

        began = time.time_ns()
        with observed() as seen:
            document, shown = plan_afresh(arguments)
        if seen.certain and not arguments.remote:
            keep(str(arguments.store), asked, seen.paths, document, began)
    for warning in document["warnings"]:
        print(f"warning: {warning}", file=sys.stderr)
    print(_as_json(document, shown) if arguments.json else _as_text(document, shown, arguments.store))
    if arguments.output is not None:
        print(f"saved: `rlhfc run {arguments.output}` carries it out while it holds", file=sys.stderr)
    gc.freeze()  # else Python looks through all of it once more before it exits
    return CHANGES if arguments.detailed_exitcode and document["changes"] else 0


def _as_json(document: PlanDocument, shown: Rendered) -> str:
    stages = [
        {**stage, "rendered": shown[stage["stage"]]} if stage["stage"] in shown else stage
        for stage in document["stages"]
    ]
    return json.dumps({**document, "stages": stages}, indent=2, ensure_ascii=False)


def _as_text(document: PlanDocument, shown: Rendered, store: Path) -> str:
    lines = plan_lines(document, datetime.now(UTC), _free(store))
    if shown:
        from rlhfc.plan.rendering import rendered_lines

        for name, what in shown.items():
            lines += ["", *rendered_lines(name, what)]
    return "\n".join(lines)


def _free(store: Path) -> int | None:
    """Bytes that are left where the store lies or will lie."""
    there = next(folder for folder in (store.absolute(), *store.absolute().parents) if folder.exists())
    try:
        status = os.statvfs(there)
    except OSError:
        return None
    return status.f_bavail * status.f_frsize
