"""Shell completion: what may come next, and how quickly."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

from rlhfc.cli.commands import COMMANDS
from rlhfc.cli.complete import FILES, candidates, stage_names
from rlhfc.cli.completion import SCRIPTS
from rlhfc.cli.main import main

SPEC = """\
# stages: not this
schema: 1
defaults: {device: cpu}
stages:   # these
    # one: two
    split:
        kind: data_split
        tokenizer: {path: model}

    "sft":
        kind: sft
    'reward': {kind: reward, model: sft.model}
    ppo@kl=0.02,lr=1e-06: {kind: ppo}
matrix:
  kl: [0.02]
"""
HEAVY = ["pydantic", "yaml", "jinja2", "networkx", "rich", "blake3", "torch", "transformers"]


@pytest.fixture
def spec(tmp_path, monkeypatch) -> Path:
    """A spec in the working directory."""
    monkeypatch.chdir(tmp_path)
    path = tmp_path / "toy.yaml"
    path.write_text(SPEC, encoding="utf-8")
    return path


STAGES = ["split", "sft", "reward", "ppo@kl=0.02,lr=1e-06"]
ANSWERS = {
    "": list(COMMANDS),
    "pl": ["plan"],
    "--": ["--help", "--version"],
    "frobnicate ": [],
    "plan ": [FILES],
    "plan toy.yaml ": [],
    "plan toy.yaml --fr": ["--from"],
    "plan toy.yaml --json --js": [],
    "plan toy.yaml --force split --for": ["--force"],
    "plan toy.yaml --force ": STAGES,
    "plan toy.yaml --from s": ["split", "sft"],
    "plan --from sft toy.yaml --until=s": ["--until=split", "--until=sft"],
    "plan toy.yaml --until=ppo@kl=": ["--until=ppo@kl=0.02,lr=1e-06"],
    "plan toy.yaml --show split s": ["split", "sft"],
    "plan toy.yaml --store ": [FILES],
    "plan toy.yaml --store=": [FILES],
    "plan toy.yaml -o ": [FILES],
    "diff ": [FILES],
    "diff last ": [FILES],
    "plan toy.yaml --mirror owner": [],
    "plan toy.yaml --mirror owner/name=": [FILES],
    "run toy.yaml --set r": ["reward."],
    "show toy.yaml r": ["reward"],
    "show toy.yaml reward ": [],
    "plan gone.yaml --force ": [],
    "plan --force ": [],
    "init --model ": [FILES],
    "completion ": ["bash", "zsh", "fish"],
    "completion b": ["bash"],
}


@pytest.mark.parametrize("line", ANSWERS)
def test_what_may_come_next(line: str, spec: Path) -> None:
    """Commands, options that are not there yet, files, and the stages of the spec on the line."""
    assert ANSWERS[line] == candidates(line.split(" "))


def test_no_words_are_an_empty_word() -> None:
    """A shell that drops the empty word gets the same answer."""
    assert list(COMMANDS) == candidates([])


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("", []),
        ("stages: {a: {kind: sft}}\n", []),
        ("stages:\n- a\n", []),
        ("schema: 1\r\nstages:\r\n  a: {kind: sft}\r\n  b: {kind: sft}\r\n", ["a", "b"]),
        ("stages:\n  a:\n    kind: sft\n  b: {}\nname: x\n  c: {}\n", ["a", "b"]),
    ],
)
def test_a_quick_look(text: str, expected: list[str], tmp_path: Path) -> None:
    """The names one level below `stages:`; what a quick look cannot read has none."""
    (tmp_path / "s.yaml").write_bytes(text.encode())
    assert expected == stage_names(tmp_path / "s.yaml")


@pytest.mark.parametrize("form", ["include: [parts/base.yaml]\n", "include:\n  - 'parts/base.yaml'\n"])
def test_included_files(form: str, tmp_path: Path) -> None:
    """Stages of included files count, those of a file that includes itself once."""
    (tmp_path / "parts").mkdir()
    (tmp_path / "parts/base.yaml").write_text("include: [base.yaml]\nstages:\n  a: {}\n  b: {}\n")
    (tmp_path / "s.yaml").write_text(f"{form}stages:\n  b: {{}}\n  c: {{}}\n")
    assert ["a", "b", "c"] == stage_names(tmp_path / "s.yaml")


def test_a_spec_that_is_no_text(tmp_path: Path) -> None:
    """Bytes that are not UTF-8 have no stages, and no traceback."""
    (tmp_path / "s.yaml").write_bytes(b"\xff\xfe")
    assert [] == stage_names(tmp_path / "s.yaml")


@pytest.mark.parametrize("line", ["complete plan toy.yaml --force ", "completion bash"])
def test_nothing_heavy_is_imported(line: str, spec: Path) -> None:
    """An answer needs the standard library only."""
    script = (
        "import sys; from rlhfc.cli.main import main; main(sys.argv[1:]); "
        f"print(sorted(set(sys.modules) & set({HEAVY})))"
    )
    command = [sys.executable, "-c", script, *line.split(" ")]
    done = subprocess.run(command, capture_output=True, text=True, check=True, timeout=60)
    first, *_, last = done.stdout.splitlines()
    assert (True, "[]") == (first in ("split", SCRIPTS["bash"].splitlines()[0]), last)


@pytest.mark.parametrize("shell", SCRIPTS)
def test_the_scripts(shell: str, capsys: pytest.CaptureFixture[str]) -> None:
    """Each is printed as it is; `test_completion_in_shells.py` has shells read them."""
    assert 0 == main(["completion", shell])
    assert SCRIPTS[shell] == capsys.readouterr().out


def test_an_unknown_shell_is_told(capsys: pytest.CaptureFixture[str]) -> None:
    """The three that there are, are named."""
    assert 1 == main(["completion", "tcsh"])
    expected = "error: argument SHELL: expected one of `bash`, `zsh`, `fish`, got `tcsh`\n"
    assert expected == capsys.readouterr().err
