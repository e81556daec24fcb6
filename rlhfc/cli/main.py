"""The command ``rlhfc``: reads the arguments of the named command and runs its module.

Only that module is imported, and only when its arguments fit, so that any ``--help`` and a mistake
on the command line need nothing but the standard library. A module has ``run(arguments) -> int``.

Exit status: the command's own; 1 for a mistake of the user's, on the command line as well; 130
when interrupted. Anything unexpected keeps its traceback.
"""

from __future__ import annotations

import argparse
import importlib
import os
import sys
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import NoReturn, Protocol, TextIO, cast

from rlhfc import __version__
from rlhfc.cli import arguments
from rlhfc.errors import Diagnostic, UserError, did_you_mean


@dataclass(frozen=True)
class Command:
    """A command: the module that does it, one line about it, and what adds its arguments to a parser."""

    module: str
    summary: str
    configure: Callable[[argparse.ArgumentParser], None]


COMMANDS = {
    "init": Command("rlhfc.cli.init", "write a first pipeline into an empty folder", arguments.init),
    "plan": Command("rlhfc.cli.plan", "show what would run, and why", arguments.plan),
    "run": Command("rlhfc.cli.run", "run what is not done yet", arguments.run),
    "accept": Command(
        "rlhfc.cli.accept", "let a stage's last result stand for what the spec says now", arguments.accept
    ),
    "show": Command("rlhfc.cli.show", "show the stages, attempts and results of a pipeline", arguments.show),
    "report": Command("rlhfc.cli.report", "write the HTML report of a pipeline", arguments.report),
    "schema": Command("rlhfc.cli.schema", "write the JSON Schemas of a spec and of a plan", arguments.schema),
    "completion": Command("rlhfc.cli.completion", "print a shell's completion script", arguments.completion),
}


class CommandModule(Protocol):
    """What the module of a command offers."""

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
    try:
        return _dispatch(list(sys.argv[1:] if argv is None else argv))
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


def _dispatch(argv: list[str]) -> int:
    if argv[:1] == ["complete"]:  # asked by shells, so it is not listed, and any words may follow
        print("\n".join(importlib.import_module("rlhfc.cli.complete").candidates(argv[1:])))
        return 0
    named = next((argument for argument in argv if not argument.startswith("-")), None)
    if named is not None and named not in COMMANDS:
        message = f"there is no command `{named}`"
        raise UserError(Diagnostic(message, hint=did_you_mean(named, COMMANDS, "commands")))
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
            command.configure(below)
    parsed = parser.parse_args(argv)
    if parsed.command is None:
        parser.print_help()
        return 0
    module = cast(CommandModule, importlib.import_module(COMMANDS[parsed.command].module))
    return module.run(parsed)
