"""The command ``rlhfc``: reads the arguments of the named command and runs its module.

Only that module is imported, and only when its arguments fit, so that any ``--help`` and a mistake
on the command line need nothing but the standard library. A module has ``run(arguments) -> int``.

Exit status: the command's own; 1 for a mistake of the user's, on the command line as well; 130
when interrupted. A fault of the machine, such as a full disk, is told like a mistake, with status 1.
Anything unexpected keeps its traceback.
"""

from __future__ import annotations

import argparse
import errno
import importlib
import os
import sys
from collections.abc import Sequence
from contextlib import redirect_stderr, redirect_stdout
from typing import Any, NoReturn, Protocol, cast

from rlhfc import __version__
from rlhfc.cli.commands import COMMANDS
from rlhfc.errors import Diagnostic, UserError, did_you_mean, listing, nearest
from rlhfc.terminal import colourful, plain

CONTINUE = "then give the same command again: it goes on where it was"
# What the machine may refuse to any call at any time. All other errors of a call are mistakes of ours.
FAULTS = {
    errno.ENOSPC: f"make room on its disk, {CONTINUE}",
    errno.EDQUOT: f"make room within the quota, {CONTINUE}",
    errno.EMFILE: f"allow more open files with `ulimit -n`, {CONTINUE}",
    errno.ENFILE: f"wait until other programs have closed files, {CONTINUE}",
    errno.EIO: f"look at the disk's health and the system's log, {CONTINUE}",
    errno.EROFS: f"make the file system writable, {CONTINUE}",
    errno.EACCES: f"allow it, {CONTINUE}",
    errno.EPERM: f"allow it, {CONTINUE}",
    errno.ESTALE: f"mount the file system again, {CONTINUE}",
    errno.ENOMEM: f"free memory, {CONTINUE}",
    errno.EAGAIN: f"allow more processes with `ulimit -u`, {CONTINUE}",
    errno.ENOLCK: f"mount the store's file system with locks, {CONTINUE}",
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

    def _check_value(self, action: argparse.Action, value: Any) -> None:
        if action.choices is not None and value not in action.choices:
            known = [str(choice) for choice in action.choices]
            called = "/".join(action.option_strings) or action.metavar
            message = f"argument {called}: expected one of {listing(known)}, got `{value}`"
            raise UserError(Diagnostic(message, hint=did_you_mean(str(value), known, "", limit=0)))

    def refuse(self, words: Sequence[str]) -> NoReturn:
        """Show which words are no arguments, and exit."""
        # What follows an option that is not known is likely its value.
        options = [word.partition("=")[0] for word in words if word.startswith("-")]
        if options:
            raise UserError(
                Diagnostic(f"`{self.prog}` has no option `{name}`", hint=self._like(name)) for name in options
            )
        see = f"see `{self.prog} --help`"
        raise UserError(
            Diagnostic(f"`{self.prog}` takes no argument `{word}` here", hint=see) for word in words
        )

    def _like(self, option: str) -> str:
        """Hint at the option that was meant; the dashes, which all have, make none alike."""
        known = {name.lstrip("-"): name for action in self._actions for name in action.option_strings}
        close = nearest(option.lstrip("-"), known)
        return f"did you mean `{known[close]}`?" if close is not None else f"see `{self.prog} --help`"


def main(argv: Sequence[str] | None = None) -> int:
    """Run one command.

    Args:
        argv: arguments without the program's name; those of the process when None.

    Returns:
        The exit status.
    """
    with redirect_stdout(plain(sys.stdout)), redirect_stderr(plain(sys.stderr)):
        return _run(list(sys.argv[1:] if argv is None else argv))


def _run(argv: list[str]) -> int:
    """Run one command, and turn what ends it into a message and an exit status."""
    try:
        return _dispatch(argv)
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
    except OSError as error:
        if error.errno not in FAULTS:
            raise
        print(_fault(error).render(colour=colourful(sys.stderr)), file=sys.stderr)
        return 1


def _fault(error: OSError) -> UserError:
    """What the machine refused, as people are told of a mistake."""
    place = f": `{os.fsdecode(error.filename)}`" if isinstance(error.filename, str | bytes) else ""
    return UserError(Diagnostic(f"{error.strerror}{place}", hint=FAULTS[error.errno or 0]))


def _dispatch(argv: list[str]) -> int:
    if argv[:1] == ["complete"]:  # asked by shells, so it is not listed, and any words may follow
        print("\n".join(importlib.import_module("rlhfc.cli.complete").candidates(argv[1:])))
        return 0
    named = next((argument for argument in argv if not argument.startswith("-")), None)
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
    parsers = {
        name: commands.add_parser(
            name, help=command.summary, description=_sentence(command.summary), allow_abbrev=False
        )
        for name, command in COMMANDS.items()
    }
    if named is not None:
        COMMANDS[named].configure(parsers[named])
    parsed, rest = parser.parse_known_args(argv)
    if rest:
        (parsers[named] if named is not None else parser).refuse(rest)
    if parsed.command is None:
        parser.print_help()
        return 0
    module = cast(CommandModule, importlib.import_module(COMMANDS[parsed.command].module))
    return module.run(parsed)


def _sentence(summary: str) -> str:
    return f"{summary[0].upper()}{summary[1:]}."
