"""``rlhfc run``: run what is not done yet. Progress is on stderr, the outcome on stdout."""

from __future__ import annotations

import argparse
import json
import sys
from collections.abc import Callable, Sequence
from pathlib import Path

from rlhfc.cli.main import colourful
from rlhfc.cli.options import add_pipeline_options
from rlhfc.cli.prepare import prepare
from rlhfc.cli.stages import check_stages
from rlhfc.compile.action import Pipeline
from rlhfc.compile.world import World
from rlhfc.environment import read_environment
from rlhfc.run.board import Board
from rlhfc.run.display import Display, LogStreams, PlainDisplay, QuietDisplay
from rlhfc.run.outcome import RunOutcome
from rlhfc.run.pin import pin_sources
from rlhfc.run.run import check, run_pipeline, this_machine_slots
from rlhfc.run.summary import closing_lines, run_document, table_lines
from rlhfc.run.sweep import Sweep, sweep_documents, sweep_lines, sweeps
from rlhfc.store.store import Store


def configure(parser: argparse.ArgumentParser) -> None:
    """Add the command's arguments."""
    add_pipeline_options(parser)
    parser.add_argument(
        "--force", metavar="STAGE", action="append", default=[], help="run it anyway; may be repeated"
    )
    shown = parser.add_mutually_exclusive_group()
    shown.add_argument("--quiet", action="store_true", help="show no progress")
    shown.add_argument("-v", "--verbose", action="store_true", help="show the stages' logs as they grow")
    parser.add_argument("--json", action="store_true", help="print the outcome as JSON")


def run(arguments: argparse.Namespace) -> int:
    """Run the pipeline. The status is 0, 1 when a stage failed, 130 when interrupted.

    Raises:
        UserError: the spec, an option, a source, the store or this machine does not fit.
    """
    prepared = prepare(arguments)
    forced = check_stages("--force", arguments.force, prepared.pipeline)
    pipeline, world = pin_sources(prepared.pipeline), prepared.world
    machine = this_machine_slots(world.gpus, read_environment().visible_gpus)
    plan = check(pipeline, Store.open(prepared.store), world, machine, forced)
    store = Store.create(prepared.store)  # nothing has been written before
    outcome = run_pipeline(plan, store, world, machine, _display(arguments), forced)
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

        return lambda board: LiveDisplay(board, Console(stderr=True), streams)
    return lambda board: PlainDisplay(board, sys.stderr, streams)


def _tell(arguments: argparse.Namespace, outcome: RunOutcome, found: Sequence[Sweep], report: Path) -> None:
    for line in closing_lines(outcome, arguments.spec):
        print(line, file=sys.stderr)
    if outcome.nothing_to_do and not arguments.quiet:
        count = len(outcome.stages)
        print(f"nothing to do: {count} of {count} stages cached", file=sys.stderr)
    sys.stderr.flush()
    if arguments.json:
        document = {**run_document(outcome, report), "sweeps": sweep_documents(found, outcome)}
        print(json.dumps(document, indent=2, ensure_ascii=False))
        return
    print("\n".join([*table_lines(outcome), *sweep_lines(found, outcome), "", f"report: {report}"]))
