"""``rlhfc run``: run what is not done yet. Progress is on stderr, the outcome on stdout."""

from __future__ import annotations

import argparse
import json
import os
import sys
from collections.abc import Callable, Sequence
from dataclasses import replace
from pathlib import Path

from rlhfc.cli.prepare import prepare
from rlhfc.cli.saved import read_saved, take_options
from rlhfc.cli.stages import selected_stages, thawed
from rlhfc.compile.action import Pipeline
from rlhfc.compile.world import World
from rlhfc.environment import read_environment
from rlhfc.errors import Diagnostic, UserError
from rlhfc.plan.estimate import estimates
from rlhfc.plan.planner import Plan
from rlhfc.plan.saved import check_fresh
from rlhfc.plan.select import plan_selected
from rlhfc.remote.source import Both, Source, configured_source, with_restores
from rlhfc.run.board import Board
from rlhfc.run.deadline import parse_deadline, parse_margin
from rlhfc.run.display import Display, LogStreams, PlainDisplay, QuietDisplay
from rlhfc.run.outcome import RunOutcome
from rlhfc.run.pin import pin_sources
from rlhfc.run.run import Terms, check, run_pipeline, this_machine_slots
from rlhfc.run.summary import closing_lines, run_document, table_lines, there_words
from rlhfc.run.sweep import Sweep, sweep_documents, sweep_lines, sweeps
from rlhfc.store.store import Store
from rlhfc.terminal import colourful, unfiltered
from rlhfc.upkeep.quota import check_quota


def run(arguments: argparse.Namespace) -> int:
    """Run the pipeline. The status is 0, 1 when a stage failed, 130 when interrupted.

    Raises:
        UserError: the spec, an option, a source, the store or this machine does not fit.
    """
    terms = _terms(arguments)
    saved = read_saved(arguments.spec)
    if saved is not None:
        take_options(arguments, saved)
    prepared = prepare(arguments)
    world, there = prepared.world, Store.open(prepared.store, rehash=arguments.rehash)
    source = _source(arguments)
    reader = there if source is None else Both(there, source)
    whole = thawed(arguments, prepared.pipeline)
    selected = selected_stages(arguments, whole)
    if saved is not None:
        check_fresh(saved, with_restores(plan_selected(whole, selected, reader, world.libraries), reader))
    pipeline = pin_sources(whole)
    machine = this_machine_slots(world.gpus, read_environment().visible_gpus)
    for warning in prepared.warnings:
        print(f"warning: {warning}", file=sys.stderr)
    plan = check(pipeline, selected, reader, world, machine)
    if not plan.nothing_to_do and (tight := _quota(plan, there)) is not None:
        print(f"warning: {tight}", file=sys.stderr)
    store = Store.create(prepared.store, rehash=arguments.rehash)  # nothing has been written before
    terms = replace(terms, forced=selected.asked.forced, source=source)
    outcome = run_pipeline(plan, store, world, machine, _display(arguments), terms)
    report = _report(pipeline, store, world)
    try:
        _tell(arguments, outcome, sweeps(pipeline, outcome.stages), report)
        sys.stdout.flush()
    except OSError:  # nobody listens any more; Python must not complain on its way out
        nowhere = os.open(os.devnull, os.O_WRONLY)
        for stream in (sys.stdout, sys.stderr):
            os.dup2(nowhere, stream.fileno())
    return outcome.exit_status


def _quota(plan: Plan, store: Store) -> str | None:
    """Warning where the outputs may exceed what the store may hold.

    Raises:
        UserError: it holds that much already.
    """
    known = estimates(plan, store, lambda stage, key: 0.0)
    return check_quota(store.layout, sum(estimate.size or 0 for estimate in known.values()))


def _terms(arguments: argparse.Namespace) -> Terms:
    """What the options hold the run to; times from now begin here.

    Raises:
        UserError: a time cannot be read, or has passed.
    """
    margin = parse_margin(arguments.stop_margin)
    if arguments.stop_before is None:
        if arguments.stop_margin is not None:
            raise UserError(Diagnostic("`--stop-margin` goes with `--stop-before`"))
        return Terms(space=not arguments.no_space_check)
    deadline = parse_deadline(arguments.stop_before, margin)
    return Terms(deadline=deadline, space=not arguments.no_space_check)


def _source(arguments: argparse.Namespace) -> Source | None:
    """The shared store that may be asked; with ``--offline`` nothing is, the hub's library included."""
    if arguments.offline:
        os.environ["HF_HUB_OFFLINE"] = "1"
        return None
    return configured_source(read_environment(), lambda text: print(f"warning: {text}", file=sys.stderr))


def _report(pipeline: Pipeline, store: Store, world: World) -> Path:
    from rlhfc.report.write import write_report  # needs jinja's templates, which a failed check does not

    return write_report(pipeline, store, world.libraries)


def _display(arguments: argparse.Namespace) -> Callable[[Board], Display]:
    if arguments.quiet:
        return lambda board: QuietDisplay()
    streams = LogStreams() if arguments.verbose else None
    if sys.stderr.isatty() and colourful(sys.stderr):
        from rich.console import Console

        from rlhfc.run.live import LiveDisplay

        return lambda board: LiveDisplay(board, Console(file=unfiltered(sys.stderr)), streams)
    return lambda board: PlainDisplay(board, sys.stderr, streams)


def _tell(arguments: argparse.Namespace, outcome: RunOutcome, found: Sequence[Sweep], report: Path) -> None:
    for line in closing_lines(outcome, arguments.spec):
        print(line, file=sys.stderr)
    if outcome.nothing_to_do and not arguments.quiet:
        print(f"nothing to do: {there_words(outcome)}", file=sys.stderr)
    sys.stderr.flush()
    if arguments.json:
        document = {**run_document(outcome, report), "sweeps": sweep_documents(found, outcome)}
        print(json.dumps(document, indent=2, ensure_ascii=False))
        return
    print("\n".join([*table_lines(outcome), *sweep_lines(found, outcome), "", f"report: {report}"]))
