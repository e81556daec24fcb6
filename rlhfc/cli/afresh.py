"""A plan made anew: the part of ``rlhfc plan`` that needs the compiler."""

from __future__ import annotations

import argparse
from typing import Any

from rlhfc.cli.prepare import prepare
from rlhfc.cli.stages import check_stages
from rlhfc.plan.describe import plan_document
from rlhfc.plan.document import PlanDocument
from rlhfc.plan.planner import make_plan
from rlhfc.plan.rendering import rendered
from rlhfc.store.store import Store


def plan_afresh(arguments: argparse.Namespace) -> tuple[PlanDocument, dict[str, dict[str, Any]]]:
    """The plan, and what each stage of ``--show`` would be launched with.

    Raises:
        UserError: the spec, an option, a source or the store is wrong.
    """
    prepared = prepare(arguments)
    forced = check_stages("--force", arguments.force, prepared.pipeline)
    shown = check_stages("--show", arguments.show or [], prepared.pipeline)
    warnings: list[str] = []
    store = Store.open(prepared.store, warnings.append)
    plan = make_plan(prepared.pipeline, store, prepared.world.libraries, forced)
    document = plan_document(plan, str(prepared.store), prepared.world.gpus, warnings)
    named = [] if arguments.show is None else shown or list(plan.stages)
    return document, {name: rendered(plan.pipeline.actions[name], plan.stages[name].key) for name in named}
