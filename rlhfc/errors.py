"""Mistakes of the user's: where they are, what they look like, what would mend them."""

from __future__ import annotations

import difflib
import unicodedata
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from pathlib import Path

RED, CYAN, BOLD, PLAIN = "\x1b[31m", "\x1b[36m", "\x1b[1m", "\x1b[0m"
EXCERPT_WIDTH = 100
OPTION = Path("--set")
"""The file of a mark on what stands on the command line."""


@dataclass(frozen=True)
class Mark:
    """A place in a file.

    Attributes:
        file: as the user named it.
        line: 1-based; 0 for a command-line argument, which has no lines.
        column: 1-based, in characters.
        length: characters that the pointer underlines.
        text: the line itself as it was read; None has it read again when it is shown.
    """

    file: Path
    line: int
    column: int
    length: int = 1
    text: str | None = field(default=None, compare=False, repr=False)

    def __str__(self) -> str:
        return f"{self.file}:{self.line}:{self.column}" if self.line else str(self.file)

    def excerpt(self) -> str | None:
        """The marked line without its line break, or None when it cannot be read."""
        if self.text is not None:
            return self.text
        try:
            lines = self.file.read_text(encoding="utf-8", errors="replace").splitlines()
        except OSError:
            return None
        return lines[self.line - 1] if 0 < self.line <= len(lines) else None


@dataclass(frozen=True)
class Diagnostic:
    """One mistake: what is wrong, where, and how to mend it."""

    message: str
    mark: Mark | None = None
    hint: str | None = None


class UserError(Exception):
    """Mistakes that the user can mend. The command line shows them and exits with status 1."""

    def __init__(self, diagnostics: Diagnostic | Iterable[Diagnostic]) -> None:
        """Take one diagnostic or several; none at all is a bug of ours."""
        listed = (diagnostics,) if isinstance(diagnostics, Diagnostic) else tuple(diagnostics)
        assert listed, "a UserError without a diagnostic"
        super().__init__(listed[0].message)
        self.diagnostics: tuple[Diagnostic, ...] = listed

    def __str__(self) -> str:
        return self.render()

    def render(self, *, colour: bool = False) -> str:
        """Every diagnostic with place, excerpt, pointer and hint; the count when there are several."""
        blocks = [_block(diagnostic, colour) for diagnostic in self.diagnostics]
        if len(blocks) > 1:
            blocks.append(_paint(f"{len(blocks)} errors", BOLD, colour))
        return "\n\n".join(blocks)


def nearest(name: str, known: Iterable[str]) -> str | None:
    """The known name that ``name`` was probably meant to be, or None when none is close."""
    by_folded = {_folded(candidate): candidate for candidate in sorted(known)}
    found = difflib.get_close_matches(_folded(name), by_folded, n=1, cutoff=0.65)
    return by_folded[found[0]] if found else None


def did_you_mean(name: str, known: Iterable[str], what: str, limit: int = 12) -> str | None:
    """A hint for a name outside a closed set: the nearest one, else the whole set when it is short.

    Args:
        name: what was written.
        known: what could have been.
        what: plural for the listing, for example ``fields of `sft```.
        limit: longest set that is listed.
    """
    names = list(known)
    close = nearest(name, names)
    if close is not None:
        return f"did you mean `{close}`?"
    if not names or len(names) > limit:
        return None
    return f"{what}: {listing(names)}"


def listing(names: Sequence[str]) -> str:
    """Names in backticks, separated by commas."""
    return ", ".join(f"`{name}`" for name in names)


def _folded(name: str) -> str:
    return name.lower().replace("-", "_")


def _paint(text: str, code: str, colour: bool) -> str:
    return f"{code}{text}{PLAIN}" if colour else text


def _block(diagnostic: Diagnostic, colour: bool) -> str:
    place = f"{diagnostic.mark}: " if diagnostic.mark else ""
    lines = [f"{place}{_paint('error:', RED, colour)} {diagnostic.message}"]
    if diagnostic.mark:
        lines.extend(_pointed(diagnostic.mark, colour))
    if diagnostic.hint:
        lines.append(f"{_paint('hint:', CYAN, colour)} {diagnostic.hint}")
    return "\n".join(lines)


def _pointed(mark: Mark, colour: bool) -> list[str]:
    """The excerpt and, under it, a pointer as wide on the screen as what it points at."""
    text = mark.excerpt()
    if text is None:
        return []
    # A tab or a control character would shift the pointer, or upset the terminal.
    shown = "".join(char if char.isprintable() else " " for char in text)
    first, shown = _window(shown, mark.column - 1)
    under = shown[first : first + mark.length].removesuffix("…")
    pointer = " " * _width(shown[:first]) + "^" * max(1, _width(under))
    gutter = str(mark.line) if mark.line else ""
    return [f" {gutter:>4} | {shown}".rstrip(), f" {'':>4} | {_paint(pointer, RED, colour)}"]


def _window(text: str, place: int) -> tuple[int, str]:
    """The part of a long line around ``place``, and where ``place`` is in it."""
    if len(text) <= EXCERPT_WIDTH:
        return place, text
    start = min(max(0, place - EXCERPT_WIDTH // 2), len(text) - EXCERPT_WIDTH)
    part = text[start : start + EXCERPT_WIDTH]
    before, after = "…" if start else "", "…" if start + EXCERPT_WIDTH < len(text) else ""
    return place - start + len(before), before + part + after


def _width(text: str) -> int:
    return sum(2 if unicodedata.east_asian_width(char) in "WF" else 1 for char in text)
