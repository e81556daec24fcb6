"""The command ``rlhfc``: finds the module of the named command and runs it.

Only that module is imported, so that ``--help`` and a mistyped command need nothing but the
standard library. A command's module has ``configure(parser)`` and ``run(arguments) -> int``.

Exit status: the command's own; 1 for a mistake of the user's, on the command line as well; 130
when interrupted. Anything unexpected keeps its traceback.
"""

from __future__ import annotations

import argparse
import importlib
import os
import sys
from collections.abc import Sequence
from dataclasses import dataclass
from typing import NoReturn, Protocol, TextIO, cast

from rlhfc import __version__
from rlhfc.errors import Diagnostic, UserError, did_you_mean


@dataclass(frozen=True)
class Command:
    """A command: the module that does it, and one line about it."""

    module: str
    summary: str


COMMANDS = {
    "init": Command("rlhfc.cli.init", "write a first pipeline into an empty folder"),
    "plan": Command("rlhfc.cli.plan", "show what would run, and why"),
    "explain": Command("rlhfc.cli.explain", "tell why a stage is cached or not, value by value"),
    "run": Command("rlhfc.cli.run", "run what is not done yet"),
    "status": Command("rlhfc.cli.status", "show where every stage stands, also while it runs"),
    "show": Command("rlhfc.cli.show", "show a stage: result, artefacts, attempts, log, metrics"),
    "history": Command("rlhfc.cli.history", "list the runs, the newest first"),
    "diff": Command("rlhfc.cli.diff", "tell what differs between two runs or two specs"),
    "config": Command("rlhfc.cli.config", "print the spec with all defaults, and where each value is from"),
    "graph": Command("rlhfc.cli.graph", "draw the stages and their states as Mermaid, DOT or SVG"),
    "report": Command("rlhfc.cli.report", "write the HTML report of a pipeline"),
    "schema": Command("rlhfc.cli.schema", "write the JSON Schema of a spec, for editors"),
}


class CommandModule(Protocol):
    """What the module of a command offers."""

    def configure(self, parser: argparse.ArgumentParser) -> None:
        """Add the command's arguments."""

    def run(self, arguments: argparse.Namespace) -> int:
        """Do it and return the exit status."""


class Parser(argparse.ArgumentParser):
    """A parser whose mistakes look like all others and exit with status 1.

    argparse's own status 2 means "there are changes" for ``plan --detailed-exitcode``.
    """

    def error(self, message: str) -> NoReturn:
        """Show the mistake and where to read on, and exit."""
        raise UserError(Diagnostic(message, hint=f"see `{self.prog} --help`"))


def main(argv: Sequence[str] | None = None) -> int:
    """Run one command.

    Args:
        argv: arguments without the program's name; those of the process when None.

    Returns:
        The exit status.
    """
    arguments = list(sys.argv[1:] if argv is None else argv)
    try:
        return _dispatch(arguments)
    except UserError as error:
        sys.stdout.flush()
        print(error.render(colour=colourful(sys.stderr)), file=sys.stderr)
        return 1
    except KeyboardInterrupt:
        print("interrupted", file=sys.stderr)
        return 130
    except BrokenPipeError:
        # Whoever read our output has seen enough; Python must not complain on its way out.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return 1


def colourful(stream: TextIO) -> bool:
    """Whether ``stream`` is a terminal whose user has not asked for plain text (``NO_COLOR``)."""
    return stream.isatty() and not os.environ.get("NO_COLOR") and os.environ.get("TERM") != "dumb"


def _dispatch(arguments: list[str]) -> int:
    named = next((argument for argument in arguments if not argument.startswith("-")), None)
    if named is not None and named not in COMMANDS:
        message = f"there is no command `{named}`"
        hint = did_you_mean(named, COMMANDS, "commands", limit=0) or "see `rlhfc --help`"
        raise UserError(Diagnostic(message, hint=hint))
    parser = Parser(
        prog="rlhfc",
        description="Compile one YAML file into an RLHF pipeline, and run what is not done yet.",
        allow_abbrev=False,
    )
    parser.add_argument("--version", action="version", version=f"rlhfc {__version__}")
    commands = parser.add_subparsers(title="commands", metavar="COMMAND", dest="command")
    for name, command in COMMANDS.items():
        below = commands.add_parser(
            name, help=command.summary, description=f"{command.summary.capitalize()}.", allow_abbrev=False
        )
        if name == named:
            module = cast(CommandModule, importlib.import_module(command.module))
            module.configure(below)
    parsed = parser.parse_args(arguments)
    if parsed.command is None:
        parser.print_help()
        return 0
    return module.run(parsed)
