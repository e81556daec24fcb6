"""``rlhfc history``: the runs that the store's ledger has, the newest first."""

from __future__ import annotations

import argparse
import json
from collections.abc import Mapping
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from rlhfc.cli.options import add_store_option
from rlhfc.errors import Diagnostic, UserError
from rlhfc.explain.runs import history_document, history_lines, runs_of
from rlhfc.run.process import Identity
from rlhfc.store.store import Store

SHOWN = 10


def configure(parser: argparse.ArgumentParser) -> None:
    """Add the command's arguments."""
    parser.add_argument("spec", metavar="SPEC", type=Path, nargs="?", help="show runs of this pipeline only")
    add_store_option(parser)
    parser.add_argument(
        "-n", metavar="COUNT", dest="count", type=int, default=SHOWN, help="how many (default: %(default)s)"
    )
    parser.add_argument("--json", action="store_true", help="print the runs as JSON")


def run(arguments: argparse.Namespace) -> int:
    """Print the runs.

    Raises:
        UserError: the spec, an option or the store is wrong.
    """
    if arguments.count < 1:
        raise UserError(Diagnostic(f"`-n {arguments.count}` shows nothing", hint="give 1 or more"))
    store = Store.open(arguments.store)
    found = runs_of(store.ledger.read(), _pipeline(arguments.spec), _lives)
    if arguments.json:
        print(json.dumps(history_document(found, arguments.count), indent=2, ensure_ascii=False))
    else:
        print("\n".join(history_lines(found, arguments.count, datetime.now(UTC))))
    return 0


def _pipeline(spec: Path | None) -> str | None:
    if spec is None:
        return None
    from rlhfc.spec.load import load_pipeline  # not needed for the runs of all pipelines

    return load_pipeline(spec).name


def _lives(head: Mapping[str, Any] | None) -> bool:
    return head is not None and Identity(**head).lives()
