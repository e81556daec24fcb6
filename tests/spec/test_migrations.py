"""Specs of an older form mean what they meant."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest

from rlhfc.errors import UserError
from rlhfc.spec import migrations
from rlhfc.spec.load import load_pipeline
from rlhfc.spec.nodes import Node

NEW = """\
schema: 1
name: small
stages:
  card: {kind: export, model: {path: m}, seed: 7}
"""
OLD = NEW.replace("schema: 1", "schema: 0").replace("seed: 7", "random_seed: 7")


def to_one(root: Node) -> Node:
    """In form 0 `seed` was called `random_seed`."""
    stages = root.child("stages")
    assert stages is not None
    renamed = {name: _renamed(stage) for name, stage in (stages.mapping or {}).items()}
    return root.put(("stages",), replace(stages, data=renamed))


def _renamed(stage: Node) -> Node:
    names = {"random_seed": "seed"}
    return replace(stage, data={names.get(name, name): node for name, node in (stage.mapping or {}).items()})


@pytest.fixture
def older(monkeypatch: pytest.MonkeyPatch) -> None:
    """A history with one older form."""
    monkeypatch.setattr(migrations, "MIGRATIONS", {0: to_one})


def test_an_older_form_means_the_same(older: None, tmp_path: Path) -> None:
    """Parameters, and so keys, are those of the form of now; the file stays as it is."""
    (tmp_path / "new.yaml").write_text(NEW)
    (tmp_path / "old.yaml").write_text(OLD)
    new, old = load_pipeline(tmp_path / "new.yaml"), load_pipeline(tmp_path / "old.yaml")
    assert new.stages["card"].params == old.stages["card"].params
    assert (new.name, list(new.stages)) == (old.name, list(old.stages))
    assert OLD == (tmp_path / "old.yaml").read_text()


def test_files_of_different_forms_go_together(older: None, tmp_path: Path) -> None:
    """Each file is brought up to date by itself, before they are laid over each other."""
    (tmp_path / "old.yaml").write_text(OLD)
    (tmp_path / "new.yaml").write_text("schema: 1\ninclude: [old.yaml]\nstages: {card: {dtype: bf16}}\n")
    params = load_pipeline(tmp_path / "new.yaml").stages["card"].params
    assert (7, "bf16") == (params.seed, params.dtype)


def test_mistakes_name_what_the_user_wrote(older: None, tmp_path: Path) -> None:
    """A value that was moved is still pointed at where it stands."""
    (tmp_path / "old.yaml").write_text(OLD.replace("random_seed: 7", "random_seed: x"))
    with pytest.raises(UserError) as caught:
        load_pipeline(tmp_path / "old.yaml")
    (fault,) = caught.value.diagnostics
    assert f"{tmp_path / 'old.yaml'}:4:55" == str(fault.mark)


def test_without_a_migration_the_number_is_refused(tmp_path: Path) -> None:
    """A form that never was is told like any wrong value."""
    (tmp_path / "old.yaml").write_text(OLD)
    with pytest.raises(UserError, match="schema: expected `1`, got `0`"):
        load_pipeline(tmp_path / "old.yaml")
