"""A plan made anew: the part of ``rlhfc plan`` that needs the compiler."""

from __future__ import annotations

import argparse
from typing import Any

from rlhfc.cli.prepare import prepare
from rlhfc.cli.saved import write_saved
from rlhfc.cli.stages import check_stages, selected_stages, thawed
from rlhfc.plan.describe import plan_document
from rlhfc.plan.document import PlanDocument
from rlhfc.plan.estimate import estimates
from rlhfc.plan.rendering import rendered
from rlhfc.plan.select import plan_selected, with_skipped
from rlhfc.provenance import commit_of
from rlhfc.store.store import Store


def plan_afresh(arguments: argparse.Namespace) -> tuple[PlanDocument, dict[str, dict[str, Any]]]:
    """The plan, and what each stage of ``--show`` would be launched with.

    Raises:
        UserError: the spec, an option, a source or the store is wrong.
    """
    prepared = prepare(arguments)
    shown = check_stages("--show", arguments.show or [], prepared.pipeline)
    pipeline = thawed(arguments, prepared.pipeline)
    selected = selected_stages(arguments, pipeline)
    warnings = list(prepared.warnings)
    store = Store.open(prepared.store, warnings.append, rehash=arguments.rehash)
    part = plan_selected(pipeline, selected, store, prepared.world.libraries)
    plan = with_skipped(part, pipeline)
    known = estimates(plan, store, lambda stage, key: _seconds_so_far(store, stage, key))
    commit = commit_of(prepared.spec.files)
    document = plan_document(plan, str(prepared.store), prepared.world.gpus, known, warnings, commit)
    if arguments.output is not None:
        write_saved(arguments, document, part)
    named = [] if arguments.show is None else shown or list(plan.stages)
    return document, {name: rendered(plan.pipeline.actions[name], plan.stages[name].key) for name in named}


def _seconds_so_far(store: Store, stage: str, key: str) -> float:
    """What the attempts at a stage have taken; imported when one is to be resumed."""
    from rlhfc.run.attempt import seconds_so_far

    return seconds_so_far(store.work(stage, key))
