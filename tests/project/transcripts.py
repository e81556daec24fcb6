"""Transcripts of the documentation: typed again, in order, in a copy of an example.

A page says by a comment `<!-- transcript: FOLDER -->` where its commands are typed.
``python tests/project/transcripts.py`` puts what they print into the pages.
"""

from __future__ import annotations

import os
import re
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

ROOT = Path(__file__).parents[2]
MARK = re.compile(r"^<!-- transcript: (\S+) -->$", re.MULTILINE)
BLOCK = re.compile(r"(?<=^```console\n)(.*?)(?=^```$)", re.MULTILINE | re.DOTALL)
HOME = "/home/me/lesson"  # in place of the folder that the test works in
# What is another each time: runs, commits, digests, times, versions; columns shift with them.
VOLATILE = (
    (re.compile(r"\d{8}T\d{6}-[0-9a-f]{6}"), "RUN"),
    (re.compile(r"\d{4}-\d\d-\d\dT[\d:.+]+"), "INSTANT"),
    (re.compile(r"b3:[0-9a-f]{8,64}"), "DIGEST"),
    (re.compile(r"(?<=[-/])[0-9a-f]{12,64}\b"), "DIGITS"),
    (re.compile(r"\b[0-9a-f]{7}\b(?=[ )])"), "COMMIT"),
    (re.compile(r"\bjust now\b|\b\d+ min ago\b"), "AGO"),
    (re.compile(r"\b\d+(\.\d)? s\b|\b\d+ min( \d+ s)?\b"), "TIME"),
    (re.compile(r"\b(tokenizers|transformers|torch|datasets|deepspeed) [0-9]\S*"), r"\1 VERSION"),
    (re.compile(r"[^\S\n]+"), " "),
    (re.compile(r" $", re.MULTILINE), ""),
)


@dataclass(frozen=True)
class Exchange:
    """A command and what it prints, on stdout and stderr."""

    command: str
    output: str


def pages() -> list[Path]:
    """Pages with a transcript that is kept true."""
    return [
        page for page in sorted(ROOT.glob("docs/**/*.md")) if MARK.search(page.read_text(encoding="utf-8"))
    ]


def exchanges(text: str) -> Iterator[Exchange]:
    """Commands of a page, from its mark on, each with what the page says that it prints."""
    mark = MARK.search(text)
    assert mark is not None
    for block in BLOCK.findall(text[mark.end() :]):
        yield from _in_block(block)


def _in_block(block: str) -> Iterator[Exchange]:
    for part in re.split(r"^\$ ", block, flags=re.MULTILINE)[1:]:
        command, _, output = part.partition("\n")
        yield Exchange(command, output)


def typed(text: str, folder: Path) -> list[Exchange]:
    """The commands of a page with what they print now.

    Args:
        text: of the page.
        folder: an empty folder to work in; it becomes a git repository.
    """
    mark = MARK.search(text)
    assert mark is not None
    shutil.copytree(
        ROOT / "examples", folder / "examples", ignore=shutil.ignore_patterns(".rlhfc", "__pycache__")
    )
    (folder / ".gitignore").write_text(".rlhfc/\n__pycache__/\n", encoding="utf-8")
    subprocess.run(["git", "init", "-q", "-b", "main", str(folder)], check=True)
    place = folder / mark[1]
    return [Exchange(given.command, _output(given.command, place)) for given in exchanges(text)]


def _output(command: str, place: Path) -> str:
    who = {
        f"GIT_{role}_{part}": "ada@example.org"
        for role in ("AUTHOR", "COMMITTER")
        for part in ("NAME", "EMAIL")
    }
    hidden = {"RLHFC_MIRROR"} | {name for name in os.environ if name.startswith("GIT_")}
    environment = {name: value for name, value in os.environ.items() if name not in hidden}
    path = f"{Path(sys.executable).parent}{os.pathsep}{environment['PATH']}"
    done = subprocess.run(
        ["bash", "-c", command],
        cwd=place,
        env={**environment, **who, "PATH": path, "CUDA_VISIBLE_DEVICES": ""},
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        timeout=300,
        check=False,
    )
    return done.stdout.replace(str(place), HOME)


def lasting(text: str) -> str:
    """Text without what is another each time."""
    for pattern, name in VOLATILE:
        text = pattern.sub(name, text)
    return text


def rewritten(text: str, now: list[Exchange]) -> str:
    """The page with what its commands print now."""
    mark = MARK.search(text)
    assert mark is not None
    left = iter(now)

    def block(found: re.Match[str]) -> str:
        here = [next(left) for _ in _in_block(found[0])]
        return "".join(f"$ {exchange.command}\n{exchange.output}" for exchange in here)

    return text[: mark.end()] + BLOCK.sub(block, text[mark.end() :])


if __name__ == "__main__":
    for page in pages():
        before = page.read_text(encoding="utf-8")
        with tempfile.TemporaryDirectory() as work:
            page.write_text(rewritten(before, typed(before, Path(work))), encoding="utf-8")
