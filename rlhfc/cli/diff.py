"""``rlhfc diff``: what differs between two runs, or two specs, or a spec and a run."""

from __future__ import annotations

import argparse
import json
from collections.abc import Sequence
from pathlib import Path

from rlhfc.errors import Diagnostic, UserError
from rlhfc.explain.comparison import compare
from rlhfc.explain.comparison_text import comparison_lines
from rlhfc.explain.documents import comparison_document
from rlhfc.explain.from_ledger import find_run
from rlhfc.explain.revision import find_revision, load_revision
from rlhfc.explain.sides import Side, run_side, spec_side
from rlhfc.spec.load import load_pipeline
from rlhfc.store.store import Store

DIFFERENT = 2


def run(arguments: argparse.Namespace) -> int:
    """Print what differs. The status is 0, or 2 for a difference with ``--detailed-exitcode``.

    Raises:
        UserError: an argument names nothing, a spec is wrong, or the store is.
    """
    store = Store.open(arguments.store)
    found = compare(*_sides((arguments.before, arguments.after), store))
    if arguments.json:
        print(json.dumps(comparison_document(found), indent=2, ensure_ascii=False))
    else:
        print("\n".join(comparison_lines(found)))
    return DIFFERENT if arguments.detailed_exitcode and found.different else 0


def _sides(arguments: Sequence[str], store: Store) -> list[Side]:
    sides: list[Side] = []
    faults: list[Diagnostic] = []
    for argument in arguments:
        try:
            sides.append(_side(argument, store))
        except UserError as error:
            faults.extend(fault for fault in error.diagnostics if fault not in faults)
    if faults:
        raise UserError(faults)
    return sides


def _side(argument: str, store: Store) -> Side:
    if Path(argument).is_file():
        return spec_side(argument, load_pipeline(Path(argument)))
    if ":" in argument:
        return spec_side(argument, load_revision(find_revision(argument, Path.cwd())))
    entries = store.ledger.read()
    return run_side(find_run(entries, argument), entries, store)
