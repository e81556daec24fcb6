"""Fill a store with a result for every stage of a spec, as a run would, without running anything.

    python benchmarks/plan/fill.py SPEC [--store FOLDER] [--mirror ID=TARGET]

Nothing is made durable: the store is for measuring.
"""

from __future__ import annotations

import argparse
import os
import shutil
from pathlib import Path

from rlhfc.cli.options import add_pipeline_options
from rlhfc.cli.prepare import prepare
from rlhfc.compile.action import Action
from rlhfc.compile.keys import KeyDocument, key_document
from rlhfc.store.publish import Product
from rlhfc.store.store import Store


def main() -> None:
    """Publish stage after stage, in topological order."""
    parser = argparse.ArgumentParser(description=__doc__)
    add_pipeline_options(parser)
    arguments = parser.parse_args()
    os.fsync = lambda _: None
    prepared = prepare(arguments)
    store = Store.create(prepared.store)
    outputs: dict[tuple[str, str], str] = {}
    for action in prepared.pipeline.actions.values():
        known = key_document(action, outputs, prepared.world.libraries)
        assert isinstance(known, KeyDocument), known
        result = store.publish(product(action, known, prepared.store / "made"))
        outputs |= {(action.stage, port): tree for port, tree in result.outputs.items()}
    shutil.rmtree(prepared.store / "made")


def product(action: Action, known: KeyDocument, folder: Path) -> Product:
    """One small file at each port."""
    ports = {port: folder / action.stage / port for port in action.kind.outputs}
    for port, place in ports.items():
        place.mkdir(parents=True)
        (place / "made.txt").write_text(f"{action.stage} {port}\n", encoding="utf-8")
    return Product(
        run="bench",
        pipeline=action.pipeline,
        stage=action.stage,
        key=known.key,
        document=known.stored,
        ports=ports,
        metrics=folder / "none",
        summary={"loss": 0.5},
        seconds=61.0,
        attempts=1,
    )


if __name__ == "__main__":
    main()
