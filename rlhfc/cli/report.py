"""``rlhfc report``: write the HTML report of a pipeline again."""

from __future__ import annotations

import argparse

from rlhfc.cli.prepare import prepare
from rlhfc.report.write import write_report
from rlhfc.store.store import Store


def run(arguments: argparse.Namespace) -> int:
    """Write the report and print its path.

    Raises:
        UserError: the spec, an option, a source or the store is wrong.
    """
    prepared = prepare(arguments)
    store = (
        Store.create(prepared.store, rehash=arguments.rehash)
        if arguments.output is None
        else Store.open(prepared.store, rehash=arguments.rehash)
    )
    path = write_report(prepared.pipeline, store, prepared.world.libraries, arguments.output)
    print(f"report: {path}")
    return 0
