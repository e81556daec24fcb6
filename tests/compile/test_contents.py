"""What compilation sees of local content: columns, and tokenizers that disagree."""

from __future__ import annotations

import gzip
import json
from pathlib import Path

import pytest

from rlhfc.cli.main import main
from rlhfc.compile.contents import first_row, vocabulary

ROW = {"question": "a", "answer": "b"}
COLUMNS = """\
schema: 1
stages:
  split:
    kind: data_split
    tokenizer: {{path: one}}
    sources:
      - data: {{path: {file}}}
        columns: {{prompt: question, response: anwser}}
"""
TOKENIZERS = """\
schema: 1
stages:
  split:
    kind: data_split
    tokenizer: {path: one}
    sources:
      - data: {path: rows.jsonl}
        columns: {prompt: question, response: answer}
  sft:
    kind: sft
    model: {path: other}
    data: split.sft
"""


def tokenizer(folder: Path, tokens: list[str], **more: object) -> None:
    """A folder with a tokenizer.json of these tokens."""
    folder.mkdir(exist_ok=True)
    content = {"model": {"vocab": {token: place for place, token in enumerate(tokens)}}, **more}
    (folder / "tokenizer.json").write_text(json.dumps(content))


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A folder with two tokenizers and rows, and the working directory there."""
    tokenizer(tmp_path / "one", ["a", "b"])
    tokenizer(tmp_path / "other", ["b", "a"])
    (tmp_path / "rows.jsonl").write_text(json.dumps(ROW) + "\n")
    (tmp_path / "rows.json").write_text("\n[ " + json.dumps(ROW) + "]")
    (tmp_path / "rows.jsonl.gz").write_bytes(gzip.compress(json.dumps(ROW).encode()))
    monkeypatch.chdir(tmp_path)
    return tmp_path


@pytest.mark.parametrize("file", ["rows.jsonl", "rows.json", "rows.jsonl.gz"])
def test_missing_column_is_told_before_anything_runs(folder, capsys, file):
    """File, place of the column in the spec, and the nearest column; nothing is written."""
    (folder / "spec.yaml").write_text(COLUMNS.format(file=file))
    before = sorted(folder.iterdir())
    assert main(["run", "spec.yaml"]) == 1
    written = "        columns: {prompt: question, response: anwser}"
    assert capsys.readouterr().err == (
        f"spec.yaml:8:47: error: split.sources.0.data: `{file}` has no column `anwser`\n"
        f"    8 | {written}\n"
        f"      | {' ' * 46}^^^^^^\n"
        "hint: did you mean `answer`?\n"
    )
    assert sorted(folder.iterdir()) == before


def test_tokenizers_that_disagree_are_told_before_anything_runs(folder, capsys):
    """Data tokenised for one model cannot train another."""
    (folder / "spec.yaml").write_text(TOKENIZERS)
    assert main(["plan", "spec.yaml"]) == 1
    error = capsys.readouterr().err
    assert (
        "spec.yaml:11:19: error: sft: `data` and `model` have different tokenizers, `one` and `other`"
        in error
    )


def test_equal_vocabularies_pass_whatever_else_the_files_say(folder, capsys):
    """Padding and truncation settings do not make another vocabulary; added tokens do."""
    tokenizer(folder / "other", ["a", "b"], truncation={"max_length": 5})
    (folder / "spec.yaml").write_text(TOKENIZERS)
    assert main(["plan", "spec.yaml"]) == 0, capsys.readouterr().err
    tokenizer(folder / "other", ["a", "b"], added_tokens=[{"id": 2, "content": "<new>"}])
    assert main(["plan", "spec.yaml"]) == 1


def test_what_cannot_be_seen_is_left_to_the_stage(folder):
    """Damaged, empty and missing files give no verdict here."""
    (folder / "bad.jsonl").write_text("{\n")
    (folder / "list.json").write_text("{}")
    assert [None] * 3 == [first_row(folder / name) for name in ("bad.jsonl", "list.json", "gone.jsonl")]
    assert vocabulary(folder / "gone.json") is None
    (folder / "unigram.json").write_text(json.dumps({"model": {"vocab": [["a", -1.0], ["b", -2.0]]}}))
    assert vocabulary(folder / "unigram.json") is not None
