"""``rlhfc run``: run what is not done yet. Progress is on stderr, the outcome on stdout."""

from __future__ import annotations

import argparse
import json
import sys
from collections.abc import Callable, Sequence
from pathlib import Path

from rlhfc.cli.main import colourful
from rlhfc.cli.prepare import prepare
from rlhfc.cli.saved import read_saved, take_options
from rlhfc.cli.stages import selected_stages, thawed
from rlhfc.compile.action import Pipeline
from rlhfc.compile.world import World
from rlhfc.environment import read_environment
from rlhfc.plan.saved import check_fresh
from rlhfc.plan.select import plan_selected
from rlhfc.run.board import Board
from rlhfc.run.display import Display, LogStreams, PlainDisplay, QuietDisplay
from rlhfc.run.outcome import RunOutcome
from rlhfc.run.pin import pin_sources
from rlhfc.run.run import check, run_pipeline, this_machine_slots
from rlhfc.run.summary import closing_lines, run_document, table_lines, there_words
from rlhfc.run.sweep import Sweep, sweep_documents, sweep_lines, sweeps
from rlhfc.store.store import Store
from rlhfc.terminal import unfiltered


def run(arguments: argparse.Namespace) -> int:
    """Run the pipeline. The status is 0, 1 when a stage failed, 130 when interrupted.

    Raises:
        UserError: the spec, an option, a source, the store or this machine does not fit.
    """
    saved = read_saved(arguments.spec)
    if saved is not None:
        take_options(arguments, saved)
    prepared = prepare(arguments)
    world, there = prepared.world, Store.open(prepared.store)
    whole = thawed(arguments, prepared.pipeline)
    selected = selected_stages(arguments, whole)
    if saved is not None:
        check_fresh(saved, plan_selected(whole, selected, there, world.libraries))
    pipeline = pin_sources(whole)
    machine = this_machine_slots(world.gpus, read_environment().visible_gpus)
    for warning in prepared.warnings:
        print(f"warning: {warning}", file=sys.stderr)
    plan = check(pipeline, selected, there, world, machine)
    store = Store.create(prepared.store)  # nothing has been written before
    outcome = run_pipeline(plan, store, world, machine, _display(arguments), selected.asked.forced)
    report = _report(pipeline, store, world)
    _tell(arguments, outcome, sweeps(pipeline), report)
    return outcome.exit_status


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
