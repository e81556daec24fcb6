"""The completion scripts in real shells that have a line on their prompt.

bash is everywhere; zsh and fish are asked where they are installed.
"""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest
from test_completion import SPEC

needs_zsh = pytest.mark.skipif(shutil.which("zsh") is None, reason="zsh is not installed here")
needs_fish = pytest.mark.skipif(shutil.which("fish") is None, reason="fish is not installed here")


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The working directory, with specs, and with `rlhfc` in front on the search path."""
    (tmp_path / "bin").mkdir()
    command = tmp_path / "bin" / "rlhfc"
    command.write_text(f'#!/bin/sh\nexec {sys.executable} -m rlhfc "$@"\n')
    command.chmod(0o755)
    for place in ("work", "work/sub dir", "home"):
        (tmp_path / place).mkdir()
    for spec in ("work/toy.yaml", "work/sub dir/my.yaml"):
        (tmp_path / spec).write_text(SPEC, encoding="utf-8")
    monkeypatch.chdir(tmp_path / "work")
    monkeypatch.setenv("PATH", os.pathsep.join([str(tmp_path / "bin"), "/usr/local/bin", "/usr/bin", "/bin"]))
    monkeypatch.setenv("HOME", str(tmp_path / "home"))
    return tmp_path


def printed(*command: str) -> list[str]:
    """Lines that a program prints, without a word on stderr."""
    done = subprocess.run(command, capture_output=True, text=True, check=False, timeout=60)
    assert (0, "") == (done.returncode, done.stderr)
    return done.stdout.splitlines()


BASH = """
source <(rlhfc completion bash)
COMP_LINE=$1 COMP_POINT=${2:-${#1}}
read -ra COMP_WORDS <<< "$COMP_LINE"
_rlhfc rlhfc "" ""
printf '%s\\n' "${COMPREPLY[@]}"
"""


@pytest.mark.parametrize(
    ("line", "expected"),
    [
        ("rlhfc pl", ["plan"]),
        ("rlhfc plan toy.yaml --from s", ["split", "sft"]),
        ("rlhfc plan toy.yaml --from=s", ["split", "sft"]),
        ("rlhfc plan toy.yaml --force ppo@kl=", ["0.02,lr=1e-06"]),
        ("rlhfc plan toy.yaml --set r", ["reward."]),
        ("rlhfc plan t", ["toy.yaml"]),
        ("rlhfc plan toy.yaml --mirror a/b=to", ["toy.yaml"]),
        ("rlhfc plan toy.yaml --fro", ["--from"]),
        ("rlhfc frobnicate ", [""]),
    ],
)
def test_in_bash(line: str, expected: list[str], folder: Path) -> None:
    """What bash would put behind the last `=`, `:` or `@` of the line."""
    assert expected == printed("bash", "-c", BASH, "bash", line)


def test_the_cursor_inside_a_line_of_bash(folder: Path) -> None:
    """What stands behind the cursor does not count."""
    line = "rlhfc plan toy.yaml --fo split --json"
    assert ["--force"] == printed("bash", "-c", BASH, "bash", line, str(line.index(" split")))


# An interactive zsh on a terminal of its own notes what it is offered, and the line as Tab leaves it.
ZSHRC = r"""
autoload -Uz compinit && compinit -D -u
source <(rlhfc completion zsh)
compadd() {
    local -a hits
    builtin compadd -O hits "$@"
    print -rl -- $hits >> $NOTES/offered
    builtin compadd "$@"
}
offer() { zle complete-word; print -r -- "$BUFFER" > $NOTES/draft && mv $NOTES/draft $NOTES/line }
zle -N offer && bindkey '^I' offer
PS1=; print rea''dy
"""
ZSH = r"""
zmodload zsh/zpty
zpty shell zsh -d -i
zpty -r -m shell seen '*ready*'
zpty -w -n shell "$1"$'\t'
repeat 1000 { [[ -e $NOTES/line ]] && break; sleep 0.02 }
zpty -d shell
print -r -- "$(<$NOTES/line)|"
[[ ! -e $NOTES/offered ]] || print -rl -- "${(@fu)$(<$NOTES/offered)}"
"""


def in_zsh(line: str, folder: Path, monkeypatch: pytest.MonkeyPatch, start: str = ZSHRC) -> list[str]:
    """The line as Tab leaves it, closed by a bar, and what was offered."""
    (folder / "home" / ".zshrc").write_text(start)
    monkeypatch.setenv("ZDOTDIR", str(folder / "home"))
    monkeypatch.setenv("NOTES", str(folder))
    return printed("zsh", "-f", "-c", ZSH, "zsh", line)


@needs_zsh
@pytest.mark.parametrize(
    ("line", "expected"),
    [
        ("rlhfc pl", ["rlhfc plan |", "plan"]),
        ("rlhfc plan toy.yaml --from s", ["rlhfc plan toy.yaml --from s|", "split", "sft"]),
        ("rlhfc plan toy.yaml --from=s", ["rlhfc plan toy.yaml --from=s|", "--from=split", "--from=sft"]),
        (
            "rlhfc plan toy.yaml --force ppo@kl=",
            ["rlhfc plan toy.yaml --force ppo@kl=0.02,lr=1e-06 |", "ppo@kl=0.02,lr=1e-06"],
        ),
        ("rlhfc plan toy.yaml --set r", ["rlhfc plan toy.yaml --set reward.|", "reward."]),
        ("rlhfc plan t", ["rlhfc plan toy.yaml |", "toy.yaml"]),
        ("rlhfc plan toy.yaml --mirror a/b=to", ["rlhfc plan toy.yaml --mirror a/b=toy.yaml |", "toy.yaml"]),
        (r"rlhfc plan sub\ dir/my.yaml --from sp", [r"rlhfc plan sub\ dir/my.yaml --from split |", "split"]),
        ("rlhfc frobnicate ", ["rlhfc frobnicate |"]),
    ],
)
def test_in_zsh(line: str, expected: list[str], folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A press of Tab completes the one candidate, or offers those that there are."""
    assert expected == in_zsh(line, folder, monkeypatch)


@needs_zsh
def test_the_script_as_a_file_of_zsh(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """In a folder of `$fpath` it is loaded at the first Tab, which it answers too."""
    (folder / "home" / "_rlhfc").write_text("\n".join(printed("rlhfc", "completion", "zsh")) + "\n")
    start = ZSHRC.replace("source <(rlhfc completion zsh)\n", "").replace(
        "autoload", "fpath=(~ $fpath); autoload"
    )
    assert ["rlhfc plan |", "plan"] == in_zsh("rlhfc pl", folder, monkeypatch, start)


FISH = "rlhfc completion fish | source; complete -C $argv[1]"


@needs_fish
@pytest.mark.parametrize(
    ("line", "expected"),
    [
        ("rlhfc pl", ["plan"]),
        ("rlhfc plan toy.yaml --from s", ["sft", "split"]),
        ("rlhfc plan toy.yaml --from=s", ["--from=sft", "--from=split"]),
        ("rlhfc plan toy.yaml --force ppo@kl=", ["ppo@kl=0.02,lr=1e-06"]),
        ("rlhfc plan toy.yaml --set r", ["reward."]),
        ("rlhfc plan t", ["toy.yaml"]),
        ("rlhfc plan 't", ["toy.yaml"]),
        (r"rlhfc plan sub\ dir/m", ["sub dir/my.yaml"]),
        (r"rlhfc plan sub\ dir/my.yaml --from sp", ["split"]),
        ("rlhfc plan ~/../work/t", ["~/../work/toy.yaml"]),
        ("rlhfc plan toy.yaml --mirror a/b=to", ["a/b=toy.yaml"]),
        ("rlhfc plan toy.yaml --store=to", ["--store=toy.yaml"]),
        ("rlhfc plan toy.yaml --fro", ["--from"]),
        ("rlhfc frobnicate ", []),
        ("alias-of-it plan toy.yaml --from sp", ["split"]),
    ],
)
def test_in_fish(line: str, expected: list[str], folder: Path) -> None:
    """What fish offers, sorted by it; paths are those that it offers itself."""
    script = f"alias alias-of-it=rlhfc; {FISH}"
    assert expected == printed("fish", "--no-config", "--private", "-c", script, "--", line)
