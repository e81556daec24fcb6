"""The reference tables of `docs/spec.md` are what the stage kinds say."""

from __future__ import annotations

import importlib.util
from pathlib import Path
from types import ModuleType

import pytest

from rlhfc.compile.impacts import impact_of
from rlhfc.compile.kinds import load_kinds

ROOT = Path(__file__).parents[2]
PAGE = ROOT / "docs" / "spec.md"


@pytest.fixture(scope="module")
def tool() -> ModuleType:
    """`tools/spec_tables.py` as a module."""
    found = importlib.util.spec_from_file_location("spec_tables", ROOT / "tools" / "spec_tables.py")
    module = importlib.util.module_from_spec(found)
    found.loader.exec_module(module)
    return module


def rows(text: str, heading: str) -> dict[str, list[str]]:
    """Cells of each row below a heading, by the field's name."""
    section = text.split(f"\n## {heading}\n")[1].split("\n## ")[0]
    cells = [line.strip("| ").split(" | ") for line in section.splitlines() if line.startswith("| `")]
    return {row[0].strip("`"): row[1:] for row in cells}


def test_tables_are_fresh(tool):
    """`make schema` writes them."""
    page = PAGE.read_text(encoding="utf-8")
    assert tool.refreshed(page) == page, "run `make schema`"


def test_stale_page_is_refused(tool, tmp_path, monkeypatch, capsys):
    """With `--check` a table of other content is an error, and nothing is written."""
    stale = tmp_path / "spec.md"
    stale.write_text(PAGE.read_text(encoding="utf-8").replace("| `kl_coef` |", "| `kl_coefficient` |"))
    before = stale.read_text()
    monkeypatch.setattr(tool, "PAGE", stale)
    assert (1, before) == (tool.main(["--check"]), stale.read_text())
    assert capsys.readouterr().err.endswith("hint: `make schema` writes them again\n")
    assert (0, 0) == (tool.main([]), tool.main(["--check"]))


def test_page_without_markers_is_refused(tool):
    """The tables have one place; a page that lost it is not written over."""
    with pytest.raises(ValueError, match="lacks"):
        tool.refreshed("# Writing a spec\n")


def test_every_field_has_its_row_and_impact(tool):
    """No field of any kind is missing from its own table or the shared ones, and its impact is right."""
    text = tool.tables()
    shared = {}
    for title in (
        "Fields of every stage",
        "Fields of training",
        "Fields of an engine",
        "Fields of a frozen engine",
    ):
        shared |= rows(text, title)
    for name, loaded in load_kinds([]).items():
        own = rows(text, f"Kind `{name}`")
        for field, info in loaded.kind.params.model_fields.items():
            cells = own.get(field) or shared[field]
            assert cells[2] in (impact_of(info), "of its fields"), f"{name}.{field}"


def test_a_row_as_a_whole(tool):
    """Type with bounds, default, impact and meaning; nested fields have dotted names, inputs their type."""
    text = tool.tables()
    assert [
        "number > 0",
        "`1.0`",
        "semantic",
        "logits are divided by it",
    ] == rows(text, "Kind `ppo`")["sampling.temperature"]
    assert [
        "input: code",
        "required",
        "semantic",
        "the Python file; it runs inside the stage",
    ] == rows(text, "Kind `evaluate`")["judges.*.code"]
