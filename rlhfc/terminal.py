"""What reaches the terminal: text, our own colours, and no other control character. Standard library only.

Names, values, messages of tools and text of models come from files of others, and a terminal obeys
what is in them. One filter stands before all output, so that no command has to think of it.
"""

from __future__ import annotations

import os
import re
from typing import TextIO, cast

from rlhfc.errors import BOLD, CYAN, PLAIN, RED

# C0 but for tab and newline, DEL, C1, and the marks that turn the order of what is read around.
# A carriage return ends a line only before a newline: alone it has the line overwritten.
CONTROL = re.compile("[\x00-\x08\x0b-\x1f\x7f-\x9f\u061c\u200e\u200f\u2028-\u202e\u2066-\u2069]")
COLOURS = "|".join(map(re.escape, (RED, CYAN, BOLD, PLAIN)))
HARMLESS_OR_NOT = re.compile(f"({COLOURS}|\r(?=\n))|{CONTROL.pattern}")


def visible(text: str) -> str:
    r"""Text with each control character written out as ``\u009b``, which in JSON means the same."""
    return CONTROL.sub(_written_out, text)


class PlainStream:
    """A text stream that passes our own colours, and writes every other control character out."""

    def __init__(self, stream: TextIO) -> None:
        self.stream = stream

    def write(self, text: str) -> int:
        """Write ``text``, made harmless."""
        self.stream.write(HARMLESS_OR_NOT.sub(lambda found: found[1] or _written_out(found), text))
        return len(text)

    def __getattr__(self, name: str) -> object:
        return getattr(self.stream, name)


def plain(stream: TextIO) -> TextIO:
    """The stream behind the filter."""
    return cast(TextIO, PlainStream(stream))


def unfiltered(stream: TextIO) -> TextIO:
    """The stream as it was: for a live table, which moves the cursor and filters its texts itself."""
    return stream.stream if isinstance(stream, PlainStream) else stream


def colourful(stream: TextIO) -> bool:
    """Whether ``stream`` is a terminal whose user has not asked for plain text (``NO_COLOR``)."""
    return stream.isatty() and not os.environ.get("NO_COLOR") and os.environ.get("TERM") != "dumb"


def _written_out(found: re.Match[str]) -> str:
    return f"\\u{ord(found[0]):04x}"
