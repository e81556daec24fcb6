"""A spec of an older form has the keys of the same spec in the form of now."""

from __future__ import annotations

from dataclasses import replace

import pytest
from bench import Bench

from rlhfc.spec import migrations
from rlhfc.spec.nodes import Node


def to_one(root: Node) -> Node:
    """In form 0 the stages stood under `steps`."""
    entries = {"stages" if name == "steps" else name: node for name, node in (root.mapping or {}).items()}
    return replace(root, data=entries)


def test_a_migration_moves_no_key(bench: Bench, all_kinds: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """All stages are cached as they were, whatever the file calls things."""
    monkeypatch.setattr(migrations, "MIGRATIONS", {0: to_one})
    older = all_kinds.replace("schema: 1", "schema: 0").replace("\nstages:", "\nsteps:")
    assert older.count("steps:") == 1
    assert bench.keys(all_kinds) == bench.keys(older)
