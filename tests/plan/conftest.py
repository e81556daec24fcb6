"""Fixtures of the tests of planning."""

from __future__ import annotations

from pathlib import Path

import pytest
from toy import KIND, SPEC, Toy, make_toy


@pytest.fixture
def toy(tmp_path: Path) -> Toy:
    """Three stages that never ran."""
    return make_toy(tmp_path)


@pytest.fixture
def spec(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A spec with a kind of its own, in the working directory."""
    for name in ("RLHFC_MIRROR", "CUDA_VISIBLE_DEVICES"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("XDG_CONFIG_HOME", str(tmp_path / "none"))
    monkeypatch.setenv("HF_HOME", str(tmp_path / "none"))
    monkeypatch.chdir(tmp_path)
    (tmp_path / "kinds" / "toy").mkdir(parents=True)
    (tmp_path / "kinds/toy/kind.py").write_text(KIND)
    (tmp_path / "kinds/toy/main.py").write_text("import rlhfc.stages.common\n")
    (tmp_path / "kinds/toy/launch.argv.j2").write_text('{% include "common/python.argv.j2" %}')
    (tmp_path / "rows.jsonl").write_text("{}\n")
    path = tmp_path / "toy.yaml"
    path.write_text(SPEC)
    return path
