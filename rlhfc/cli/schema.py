"""``rlhfc schema``: the JSON Schemas of specs and overlays, written or checked for freshness."""

from __future__ import annotations

import argparse
from pathlib import Path

from rlhfc.compile.kinds import load_kinds
from rlhfc.errors import Diagnostic, UserError
from rlhfc.spec.schema import schema_texts


def configure(parser: argparse.ArgumentParser) -> None:
    """Add the command's arguments."""
    parser.add_argument(
        "--output",
        metavar="DIR",
        type=Path,
        default=Path("schemas"),
        help="folder of the schemas (default: schemas)",
    )
    parser.add_argument(
        "--check", action="store_true", help="write nothing; exit with 1 when a file is stale"
    )


def run(arguments: argparse.Namespace) -> int:
    """Write the schemas, or compare them with what is there.

    Raises:
        UserError: with ``--check``, when a file is missing or differs.
    """
    for name, text in schema_texts(load_kinds([])).items():
        target: Path = arguments.output / name
        if arguments.check:
            if not target.is_file() or target.read_text(encoding="utf-8") != text:
                hint = f"run `rlhfc schema --output {arguments.output}`"
                raise UserError(Diagnostic(f"`{target}` is not what the stage kinds say", hint=hint))
            print(f"{target} is up to date")
            continue
        arguments.output.mkdir(parents=True, exist_ok=True)
        target.write_text(text, encoding="utf-8")
        print(target)
    return 0
