"""`rlhfc data show`, through the real command line and a real split."""

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

sys.path.insert(0, str(Path(__file__).parents[1] / "stages"))
from data_helpers import chatml, write_rows
from rlhfc.stages.common.tokenview import pieces
from tokenizers import Tokenizer

SPEC = """
schema: 1
stages:
  split:
    kind: data_split
    tokenizer: {path: tokenizer}
    sources: [{data: {path: talks.jsonl}}]
    parts: [1, 0, 1]
  sft:
    kind: sft
    model: {path: tokenizer}
    data: split.sft
"""


@pytest.fixture(scope="module")
def talks(tmp_path_factory):
    """A pipeline whose rows are conversations, run up to its split."""
    folder = tmp_path_factory.mktemp("talks")
    chatml().save_pretrained(folder / "tokenizer")
    (folder / "tokenizer" / "config.json").write_text('{"model_type": "llama", "vocab_size": 400}')
    said = [("user", "hi"), ("assistant", "yes\n猫"), ("user", "why"), ("assistant", "so")]
    talk = [{"role": role, "content": text} for role, text in said]
    rows = [{"messages": [{"role": "user", "content": f"the cat {n}"}, *talk[1:]]} for n in range(40)]
    write_rows(folder / "talks.jsonl", rows)
    (folder / "talks.yaml").write_text(SPEC)
    ran = rlhfc(folder, "run", "talks.yaml", "--until", "split", "--quiet")
    assert 0 == ran.returncode, ran.stderr
    return folder


def rlhfc(folder: Path, *words: str) -> subprocess.CompletedProcess[str]:
    """Run a command in the folder."""
    return subprocess.run(
        [sys.executable, "-m", "rlhfc", *words],
        cwd=folder,
        env={**os.environ, "XDG_CONFIG_HOME": str(folder / "config")},
        capture_output=True,
        text=True,
        check=False,
    )


def test_rows_with_what_is_learnt(talks):
    """Tokens of the first row, the last answer in brackets, the earlier one in parentheses."""
    shown = rlhfc(talks, "data", "show", "talks.yaml", "-n", "2")
    assert (0, "") == (shown.returncode, shown.stderr)
    first, prompt, text, response, answer, *more, legend = shown.stdout.splitlines()
    assert "split.sft train, row 0 of 18" == first
    plain = text.strip().replace("|", "").replace("·", "")  # also those of the special tokens
    assert plain.startswith("<im_start>user⏎the cat ")
    assert plain.endswith("(yes⏎猫<im_end>)⏎<im_start>user⏎why<im_end>⏎<im_start>assistant⏎")
    assert ("[so<im_end>]", "  response, ") == (answer.strip().replace("|", ""), response[:12])
    assert prompt.startswith("  prompt, ")
    assert 5 == len(more)
    assert legend.endswith("[learnt], (learnt with `loss_on: answers`)")


def test_rows_for_programs(talks):
    """With `--json`: ids, texts and marks, which join to what was said."""
    shown = rlhfc(talks, "data", "show", "talks.yaml", "split", "--port", "heldout", "--row", "1", "--json")
    document = json.loads(shown.stdout)
    assert ("split", "heldout", "eval", 2) == tuple(
        document[name] for name in ("stage", "port", "split", "rows")
    )
    (row,) = document["shown"]
    assert 1 == row["row"]
    assert "so<|im_end|>" == "".join(text for _, text, _ in row["segments"]["response"])
    assert {"answer"} == {mark for *_, mark in row["segments"]["response"]}
    assert {"prompt"} == {mark for *_, mark in row["segments"]["prompt"]}


@pytest.mark.parametrize(
    ("words", "error", "hint"),
    [
        (("sft",), "sft has no result yet", "`rlhfc run` makes one"),
        (("split", "--port", "sfd"), "`--port sfd` is none of the outputs with rows", "did you mean `sft`?"),
        (("split", "--split", "tran"), "`--split tran` is none of the splits", "did you mean `train`?"),
        (("--row", "18"), "there is no row 18: split.sft has 18 rows in `train`", "rows begin with 0"),
        (("--row", "x"), "`--row x` is no number", "give 0 or more"),
        (("-n", "0"), "`-n 0` is no count", "give 1 or more"),
    ],
)
def test_what_cannot_be_shown(talks, words, error, hint):
    """Each message with its remedy."""
    ended = rlhfc(talks, "data", "show", "talks.yaml", *words)
    assert (1, "", f"error: {error}\nhint: {hint}\n") == (ended.returncode, ended.stdout, ended.stderr)


def test_pieces_join_to_the_text(talks):
    """A character of several tokens comes with the last of them."""
    tokenizer = Tokenizer.from_file(str(talks / "tokenizer" / "tokenizer.json"))
    ids = tokenizer.encode("the 猫 sat, 🐈 too").ids
    found = list(pieces(tokenizer, ids))
    assert "the 猫 sat, 🐈 too" == "".join(found)
    assert len(ids) == len(found)
    assert "" in found
