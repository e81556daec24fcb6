"""The command line as a table: every command with its arguments, independent of how help is laid out.

``python tests/project/cli_surface.py`` writes ``cli_surface.txt`` again.
"""

from __future__ import annotations

import argparse
from collections.abc import Iterator
from pathlib import Path

from rlhfc.cli.commands import COMMANDS
from rlhfc.cli.main import Parser

RECORD = Path(__file__).with_suffix(".txt")
REPEATED = argparse._AppendAction


def parser_of(name: str) -> argparse.ArgumentParser:
    """The parser of one command, with its own arguments only."""
    parser = Parser(prog=f"rlhfc {name}", add_help=False, allow_abbrev=False)
    COMMANDS[name].configure(parser)
    return parser


def described(action: argparse.Action) -> str:
    """One argument: names, value, and what may be left out or repeated."""
    value = "" if action.nargs == 0 else f" {action.metavar or action.dest.upper()}"
    count = {"*": " (any number)", "+": " (one or more)", "?": " (or none)"}.get(str(action.nargs), "")
    repeated = " (repeatable)" if isinstance(action, REPEATED) else ""
    default = "" if action.default in (None, False, [], argparse.SUPPRESS) else f" = {action.default}"
    return f"{', '.join(action.option_strings)}{value}".strip() + count + repeated + default


def lines() -> Iterator[str]:
    """The table, line by line."""
    for name in COMMANDS:
        parser = parser_of(name)
        yield f"rlhfc {name}"
        for action in parser._actions:
            yield f"  {described(action)}"
        for group in parser._mutually_exclusive_groups:
            yield "  at most one of " + ", ".join(
                action.option_strings[-1] for action in group._group_actions
            )


def surface() -> str:
    """The table as text."""
    return "\n".join(lines()) + "\n"


if __name__ == "__main__":
    RECORD.write_text(surface(), encoding="utf-8")
