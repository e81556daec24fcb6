"""The documentation names commands and files that exist."""

from __future__ import annotations

import re
import shlex
from pathlib import Path

import pytest
from cli_surface import parser_of

from rlhfc.cli.commands import COMMANDS

ROOT = Path(__file__).parents[2]
PAGES = sorted([*ROOT.glob("*.md"), *(ROOT / "docs").rglob("*.md"), *(ROOT / "examples").rglob("*.md")])
FENCE = re.compile(r"^```(?:console|sh|bash|shell)\n(.*?)^```$", re.MULTILINE | re.DOTALL)
LINK = re.compile(r"\]\((?!\w+:|#)([^)#\s]+)")


def commands(text: str) -> list[list[str]]:
    """Words of each command in the shell blocks of a page; in a block with prompts only those lines count."""
    found = []
    for block in FENCE.findall(text):
        lines = block.replace("\\\n", " ").splitlines()
        prompted = [line.removeprefix("$ ") for line in lines if line.startswith("$ ")]
        found += [shlex.split(line, comments=True) for line in prompted or lines]
    return [words for words in found if words]


def unknown_words(words: list[str]) -> list[str]:
    """What a `make` or `rlhfc` command names that does not exist; other programs are not judged."""
    program, *rest = words
    if Path(program).name == "make":
        makefile = (ROOT / "Makefile").read_text(encoding="utf-8")
        targets = set(re.findall(r"^([a-z-]+):", makefile, re.MULTILINE))
        return [word for word in rest if "=" not in word and word not in targets]
    if Path(program).name == "rlhfc" and rest and rest[0] != "--version":
        if rest[0] not in COMMANDS:
            return rest[:1]
        return [word for word in rest[1:] if word.startswith("-") and word not in options_of(rest[0])]
    return []


def options_of(command: str) -> set[str]:
    """Option strings of a command."""
    return {"--help", *(option for action in parser_of(command)._actions for option in action.option_strings)}


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("```sh\nmake quickstart\nrlhfc plan p.yaml --json\n```\n", []),
        ("```console\n$ make quickstrat ARGS=x\nmake nothing\n```\n", ["quickstrat"]),
        (
            "```sh\nrlhfc pln p.yaml\n.venv/bin/rlhfc run p.yaml --forced a # --why\n```\n",
            ["pln", "--forced"],
        ),
        ("```text\nmake no-such-thing\n```\n", []),
    ],
)
def test_what_does_not_exist_is_found(text, expected):
    """The check below sees a wrong target, command and option, and nothing else."""
    assert expected == [word for words in commands(text) for word in unknown_words(words)]


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.relative_to(ROOT).as_posix())
def test_commands_in_the_documentation_exist(page):
    """Each `make` target, `rlhfc` command and option that a page shows can be typed."""
    text = page.read_text(encoding="utf-8")
    assert [] == [(words, word) for words in commands(text) for word in unknown_words(words)]


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.relative_to(ROOT).as_posix())
def test_links_in_the_documentation_lead_somewhere(page):
    """Each relative link of a page names a file or folder of the repository."""
    targets = LINK.findall(page.read_text(encoding="utf-8"))
    assert [] == [target for target in targets if not (page.parent / target).exists()]


def test_index_of_the_documentation_is_complete():
    """`docs/README.md` leads to every other page below `docs/`."""
    index = ROOT / "docs" / "README.md"
    linked = {(index.parent / target).resolve() for target in LINK.findall(index.read_text(encoding="utf-8"))}
    pages = {path.resolve() for path in (ROOT / "docs").rglob("*.md")} - {index.resolve()}
    assert set() == pages - linked


def test_decisions_are_numbered_and_short():
    """Records of decisions are numbered without a gap, have their three parts and at most 40 lines."""
    records = sorted((ROOT / "docs" / "decisions").glob("*.md"))
    assert [f"{number:04d}" for number in range(1, len(records) + 1)] == [path.name[:4] for path in records]
    for path in records:
        text = path.read_text(encoding="utf-8")
        parts = re.findall(r"^## (.*)$", text, re.MULTILINE)
        assert (["Context", "Decision", "Consequences"], True) == (parts, text.count("\n") <= 40), path.name
