"""``rlhfc schema``: the JSON Schema of a spec, written or checked for freshness."""

from __future__ import annotations

import argparse
from pathlib import Path

from rlhfc.compile.kinds import load_kinds
from rlhfc.errors import Diagnostic, UserError
from rlhfc.spec.schema import FILE_NAME, schema_text


def run(arguments: argparse.Namespace) -> int:
    """Write the schema, or compare it with what is there.

    Raises:
        UserError: with ``--check``, when the file is missing or differs.
    """
    target: Path = arguments.output / FILE_NAME
    text = schema_text(load_kinds([]))
    if arguments.check:
        if not target.is_file() or target.read_text(encoding="utf-8") != text:
            hint = f"run `rlhfc schema --output {arguments.output}`"
            raise UserError(Diagnostic(f"`{target}` is not what the stage kinds say", hint=hint))
        print(f"{target} is up to date")
        return 0
    arguments.output.mkdir(parents=True, exist_ok=True)
    target.write_text(text, encoding="utf-8")
    print(target)
    return 0
