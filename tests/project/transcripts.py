"""Transcripts of the documentation: typed again, in order, in copies of the examples.

Every block of output on a page, ```console or ```text, is what commands print. Comments say how:

* ``<!-- transcript: FOLDER -->`` begins a session in a fresh copy of the examples and pipelines, and
  says in which folder of it; one that is not there is made. The commands of the ```console blocks
  below it are typed one after the other, in one shell.
* ``<!-- typed: COMMANDS -->`` is typed unseen where it stands, and must succeed: an edit that the text
  tells of, or ``recorded SPEC``, which plays a recorded run into the store (``recorded.py``).
* ``<!-- prints: COMMANDS -->`` stands right above a ```text block, which is what they print.

``python tests/project/transcripts.py [PAGE …]`` puts what is printed now into the pages.
"""

from __future__ import annotations

import os
import re
import secrets
import shlex
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from dataclasses import dataclass, replace
from pathlib import Path

ROOT = Path(__file__).parents[2]
COMMENT = r"<!-- (?P<name>transcript|typed|prints):\s+(?P<words>(?:(?!-->).)*?)\s*-->"
FENCE = r"```(?P<language>\w*)\n(?P<body>.*?)^(?P=indent)```"
PIECE = re.compile(rf"^(?P<indent> *)(?:{COMMENT}|{FENCE})$", re.MULTILINE | re.DOTALL)
INPUTS = {"sh", "yaml", "toml", "json", "python"}  # languages of blocks that nothing prints
COPIED = ("examples", "pipelines")
TOP, BELOW = "/home/me/rlhfc", "/home/me/lesson"  # in place of the folder that the test works in
# What is another each time: runs, commits, digests, times, sizes, versions; columns shift with them.
VOLATILE = (
    (re.compile(r"\d{8}T\d{6}-[0-9a-f]{6}"), "RUN"),
    (re.compile(r"\b\d{8}T\d{6}Z-[0-9a-f]{8}\b"), "QUARANTINE"),
    (re.compile(r"\d{4}-\d\d-\d\d(T[\d:.+]+| \d\d:\d\d UTC)?"), "INSTANT"),
    (re.compile(r"b3:[0-9a-f]{8,64}"), "DIGEST"),
    (re.compile(r"\b[0-9a-f]{2}/[0-9a-f]{62}\b"), "DIGITS"),
    (re.compile(r"(?<=[-/])[0-9a-f]{12,64}\b"), "DIGITS"),
    (re.compile(r"\b[0-9a-f]{7}\b(?=[ )])"), "COMMIT"),
    (re.compile(r"\bjust now\b|\b\d+ min ago\b"), "AGO"),
    (re.compile(r"\b\d+(\.\d)? s\b|\b\d+ min( \d+ s)?\b"), "TIME"),
    (re.compile(r"(?<=\()[\d.]+ [kMGT]?B(?= free\))|[\d.]+ [kMGT]?B(?= read:)"), "SIZE"),
    (re.compile(r"(\b\d+ results?,?\s+|[Ff]reed? |(?<=B) of )[\d.]+ [kMGT]?B\b"), r"\1SIZE"),  # by blocks
    (re.compile(r"\b(tokenizers|transformers|torch|datasets|deepspeed) [0-9]\S*"), r"\1 VERSION"),
    (re.compile(r"(?<=its last )\d+(?= lines)"), "SOME"),
    (re.compile(r"^\w+: step \d+/\d+ .*\n", re.MULTILINE), ""),  # progress comes by the clock
    (re.compile(r"[^\S\n]+"), " "),
    (re.compile(r" $", re.MULTILINE), ""),
)


@dataclass(frozen=True)
class Exchange:
    """A command and what it prints, on stdout and stderr.

    Attributes:
        unseen: it is no part of the page, and must succeed.
    """

    command: str
    output: str = ""
    unseen: bool = False


@dataclass(frozen=True)
class Session:
    """Commands that follow on each other.

    Attributes:
        line: of the page, where it begins.
        folder: where they are typed, in the copy.
    """

    line: int
    folder: str
    exchanges: tuple[Exchange, ...]


def pages() -> list[Path]:
    """Every page of the documentation."""
    found = [
        *ROOT.glob("*.md"),
        *(path for top in ("docs", "examples", "benchmarks") for path in (ROOT / top).rglob("*.md")),
    ]
    return sorted(found)


def sessions(text: str) -> list[Session]:
    """Sessions of a page, with what the page says that they print."""
    found: list[Session] = []
    for piece in PIECE.finditer(text):
        if piece["name"] == "transcript":
            found.append(Session(text.count("\n", 0, piece.start()) + 1, piece["words"], ()))
        elif found:
            more = (*found[-1].exchanges, *_exchanges(piece, text))
            found[-1] = replace(found[-1], exchanges=more)
    return found


def _exchanges(piece: re.Match[str], text: str) -> Iterator[Exchange]:
    if piece["name"] == "typed":
        yield Exchange(_outdented(piece, "words"), unseen=True)
    elif piece["language"] == "console":
        yield from _prompted(_outdented(piece))
    elif piece["language"] == "text" and (command := _printing(piece, text)) is not None:
        yield Exchange(command, _outdented(piece))


def _prompted(block: str) -> Iterator[Exchange]:
    for part in re.split(r"^\$ ", block, flags=re.MULTILINE)[1:]:
        command, _, output = part.partition("\n")
        yield Exchange(command, output)


def _printing(block: re.Match[str], text: str) -> str | None:
    """The commands above a block, if there are any."""
    above = [piece for piece in PIECE.finditer(text, 0, block.start()) if piece.end() + 1 == block.start()]
    return _outdented(above[0], "words") if above and above[0]["name"] == "prints" else None


def _outdented(piece: re.Match[str], part: str = "body") -> str:
    return re.sub(rf"^{piece['indent']}", "", piece[part], flags=re.MULTILINE)


def untyped(text: str) -> list[str]:
    """First lines of blocks of output that no session prints, and of blocks without a language."""
    found, began = [], False
    for piece in PIECE.finditer(text):
        began = began or piece["name"] == "transcript"
        if piece["name"] is not None or piece["language"] in INPUTS:
            continue
        typed = piece["language"] == "console" or _printing(piece, text) is not None
        if not (began and typed) or piece["language"] not in ("console", "text"):
            found.append(piece["body"].partition("\n")[0])
    return found


def typed(session: Session, folder: Path) -> Session:
    """The session with what its commands print now.

    Args:
        session: of a page.
        folder: an empty folder to work in; it becomes a git repository without a commit.

    Raises:
        RuntimeError: a command that is typed unseen failed.
    """
    top = folder / "top"
    for name in COPIED:
        ignored = shutil.ignore_patterns(".rlhfc", "__pycache__")
        shutil.copytree(ROOT / name, top / name, ignore=ignored)
    (top / ".gitignore").write_text(".rlhfc/\n__pycache__/\n", encoding="utf-8")
    subprocess.run(["git", "init", "-q", "-b", "main", str(top)], check=True)
    place = top / session.folder
    place.mkdir(exist_ok=True)
    shown = TOP if place.resolve() == top.resolve() else BELOW
    ends = _ends(session, place, folder / "home", trusted=top)
    now = []
    for exchange, (output, status) in zip(session.exchanges, ends, strict=True):
        if exchange.unseen and status:
            raise RuntimeError(f"line {session.line}: `{exchange.command}` failed:\n{output}")
        seen = "" if exchange.unseen else output.replace(str(place), shown)
        now.append(replace(exchange, output=seen))
    return replace(session, exchanges=tuple(now))


def _ends(session: Session, place: Path, home: Path, trusted: Path) -> list[tuple[str, int]]:
    """What each command prints, and its exit status."""
    mark = f"-- {secrets.token_hex(8)}"
    play = shlex.join([sys.executable, str(Path(__file__).with_name("recorded.py")), "play"])
    script = f'recorded() {{ {play} "$@"; }}\n'
    script += "".join(f"{exchange.command}\necho '{mark}' $?\n" for exchange in session.exchanges)
    done = subprocess.run(
        ["bash", "-c", script],
        cwd=place,
        env=_environment(home) | {"RLHFC_TRUST": str(trusted)},  # as `make quickstart` does
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        timeout=600,  # a busy machine
        check=False,
    )
    parts = re.split(rf"{mark} (\d+)\n", done.stdout)
    if len(parts) != 2 * len(session.exchanges) + 1:
        raise RuntimeError(f"line {session.line}: the shell has ended early: {parts[-1]}")
    return [(output, int(status)) for output, status in zip(parts[:-1:2], parts[1::2], strict=True)]


def _environment(home: Path) -> dict[str, str]:
    """Variables of a user without any configuration, on a machine without GPUs or a way to the hub."""
    hidden = re.compile("RLHFC_|GIT_|HF_|XDG_|CUDA_")
    kept = {name: value for name, value in os.environ.items() if not hidden.match(name)}
    roles = [f"GIT_{role}_{part}" for role in ("AUTHOR", "COMMITTER") for part in ("NAME", "EMAIL")]
    return {
        **kept,
        **dict.fromkeys(roles, "ada@example.org"),
        "GIT_CONFIG_GLOBAL": os.devnull,
        "PATH": f"{Path(sys.executable).parent}{os.pathsep}{kept['PATH']}",
        "PYTHONUNBUFFERED": "1",  # stdout and stderr in the order in which a terminal shows them
        "CUDA_VISIBLE_DEVICES": "",
        "HF_HUB_OFFLINE": "1",
        "HF_HOME": str(home),
        "XDG_CONFIG_HOME": str(home),
    }


def lasting(session: Session) -> list[Exchange]:
    """Exchanges that are seen, without what is another each time."""
    return [replace(each, output=lasting_text(each.output)) for each in session.exchanges if not each.unseen]


def lasting_text(text: str) -> str:
    """Text without what is another each time."""
    for pattern, name in VOLATILE:
        text = pattern.sub(name, text)
    return text


def rewritten(text: str, now: list[Session]) -> str:
    """The page with what its commands print now; a session in which nothing lasting changed stays."""
    kept = [
        new if lasting(old) != lasting(new) else old for old, new in zip(sessions(text), now, strict=True)
    ]
    left = (each for session in kept for each in session.exchanges if not each.unseen)
    began = False

    def piece(found: re.Match[str]) -> str:
        nonlocal began
        began = began or found["name"] == "transcript"
        here = list(_exchanges(found, text)) if began and found["name"] is None else []
        if not here:
            return found[0]
        prompt = "$ {0.command}\n{0.output}" if found["language"] == "console" else "{0.output}"
        block = "".join(prompt.format(next(left)) for _ in here)
        block = re.sub("^(?=.)", found["indent"], block, flags=re.MULTILINE)
        fence = f"{found['indent']}```"
        return f"{fence}{found['language']}\n{block}{fence}"

    return PIECE.sub(piece, text)


def main() -> None:
    """Rewrite the pages that are named, or all."""
    for page in [Path(name).resolve() for name in sys.argv[1:]] or pages():
        before, now = page.read_text(encoding="utf-8"), []
        for session in sessions(before):
            with tempfile.TemporaryDirectory() as work:
                now.append(typed(session, Path(work)))
        after = rewritten(before, now)
        if after != before:
            page.write_text(after, encoding="utf-8")
            print(f"rewritten: {page.relative_to(ROOT)}")


if __name__ == "__main__":
    main()
