"""``rlhfc schema``: the JSON Schemas of specs, overlays and plans, written or checked for freshness."""

from __future__ import annotations

import argparse
from collections.abc import Mapping
from pathlib import Path

from rlhfc.compile.kinds import load_kinds
from rlhfc.errors import Diagnostic, UserError
from rlhfc.plan import schema as plan
from rlhfc.spec.schema import schema_texts


def run(arguments: argparse.Namespace) -> int:
    """Write the schemas, or compare them with what is there.

    Raises:
        UserError: with ``--check``, for each file that is missing or differs.
    """
    folder: Path = arguments.output
    contents = {**schema_texts(load_kinds([])), plan.FILE_NAME: plan.plan_schema_text()}
    texts = {folder / name: text for name, text in contents.items()}
    if arguments.check:
        _check(texts, f"run `rlhfc schema --output {folder}`")
        return 0
    folder.mkdir(parents=True, exist_ok=True)
    for path, text in texts.items():
        path.write_text(text, encoding="utf-8")
        print(path)
    return 0


def _check(texts: Mapping[Path, str], hint: str) -> None:
    stale = [
        path for path, text in texts.items() if not path.is_file() or path.read_text(encoding="utf-8") != text
    ]
    if stale:
        raise UserError(Diagnostic(f"`{path}` is not what the code says", hint=hint) for path in stale)
    for path in texts:
        print(f"{path} is up to date")
