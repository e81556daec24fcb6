"""A plan made anew: the part of ``rlhfc plan`` that needs the compiler."""

from __future__ import annotations

import argparse
from collections.abc import Callable
from typing import TYPE_CHECKING, Any

from rlhfc.cli.prepare import prepare
from rlhfc.cli.saved import write_saved
from rlhfc.cli.stages import check_stages, selected_stages, thawed
from rlhfc.compile.action import Pipeline
from rlhfc.compile.world import Libraries
from rlhfc.environment import read_environment
from rlhfc.errors import Diagnostic, UserError
from rlhfc.plan.describe import plan_document
from rlhfc.plan.document import PlanDocument
from rlhfc.plan.estimate import estimates
from rlhfc.plan.planner import Plan
from rlhfc.plan.rendering import rendered
from rlhfc.plan.select import Selected, plan_selected, with_skipped
from rlhfc.provenance import commit_of
from rlhfc.store.store import Store

if TYPE_CHECKING:
    from rlhfc.remote.source import Source


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
    source = _source(arguments, warnings.append)
    part = _part(pipeline, selected, store, prepared.world.libraries, source)
    plan = with_skipped(part, pipeline)
    known = estimates(plan, store, lambda stage, key: _seconds_so_far(store, stage, key))
    commit = commit_of(prepared.spec.files)
    name = source.name if source is not None else None
    document = plan_document(plan, str(prepared.store), prepared.world.gpus, known, warnings, commit, name)
    if source is None and read_environment().remote is not None and document["changes"]:
        document["hints"].append("`rlhfc run` asks the shared store first; `--remote` asks it for this plan")
    if arguments.output is not None:
        write_saved(arguments, document, part)
    named = [] if arguments.show is None else shown or list(plan.stages)
    return document, {name: rendered(plan.pipeline.actions[name], plan.stages[name].key) for name in named}


def _part(
    pipeline: Pipeline, selected: Selected, store: Store, libraries: Libraries, source: Source | None
) -> Plan:
    """The plan of what is selected, with what the shared store has where that is asked."""
    if source is None:
        return plan_selected(pipeline, selected, store, libraries)
    from rlhfc.remote.source import Both, with_restores

    reader = Both(store, source)
    return with_restores(plan_selected(pipeline, selected, reader, libraries), reader)


def _source(arguments: argparse.Namespace, warn: Callable[[str], None]) -> Source | None:
    """The shared store, when it is to be asked.

    Raises:
        UserError: there is none, or it cannot be used.
    """
    if not arguments.remote:
        return None
    from rlhfc.remote.source import configured_source  # a plan that asks nobody has no use for it

    source = configured_source(read_environment(), warn)
    if source is None:
        hint = "name it with `export RLHFC_REMOTE=URL`"
        raise UserError(Diagnostic("`--remote`: there is no shared store to ask", hint=hint))
    return source


def _seconds_so_far(store: Store, stage: str, key: str) -> float:
    """What the attempts at a stage have taken; imported when one is to be resumed."""
    from rlhfc.run.attempt import seconds_so_far

    return seconds_so_far(store.work(stage, key))
