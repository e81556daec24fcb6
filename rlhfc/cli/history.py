"""``rlhfc history``: the runs and acceptances that the store's ledger has, the newest first."""

from __future__ import annotations

import argparse
import json
from collections.abc import Mapping
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from rlhfc.explain.history import events_of, history_document, history_lines
from rlhfc.identity import Identity
from rlhfc.store.store import Store


def run(arguments: argparse.Namespace) -> int:
    """Print them.

    Raises:
        UserError: the spec or the store is wrong.
    """
    store = Store.open(arguments.store)
    found = events_of(store.ledger.read(), _pipeline(arguments.spec), _lives)
    if arguments.json:
        print(json.dumps(history_document(found, arguments.count), indent=2, ensure_ascii=False))
    else:
        print("\n".join(history_lines(found, arguments.count, datetime.now(UTC))))
    return 0


def _pipeline(spec: Path | None) -> str | None:
    if spec is None:
        return None
    from rlhfc.spec.load import load_pipeline  # not needed for those of all pipelines

    return load_pipeline(spec).name


def _lives(head: Mapping[str, Any] | None) -> bool:
    return head is not None and Identity(**head).lives()
