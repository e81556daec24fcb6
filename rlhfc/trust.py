"""Folders whose code may run: a spec may lead to Python, and its author may be a stranger.

Nothing here imports or runs what it looks at. A path is compared as it really is, links resolved,
so that a link inside a trusted folder lends its trust to nothing outside of it.
"""

from __future__ import annotations

import os
import shlex
import stat
import sys
from collections.abc import Sequence
from dataclasses import replace
from functools import cached_property
from pathlib import Path

from rlhfc.environment import Environment, read_environment
from rlhfc.errors import OPTION, Diagnostic, Mark, UserError
from rlhfc.observe import LOOKED

WRITABLE_BY_OTHERS = stat.S_IWGRP | stat.S_IWOTH
VARIABLE = "RLHFC_TRUST"


class Trust:
    """What one user trusts. The file is read when something is asked for the first time."""

    def __init__(self, file: Path, named: Sequence[Path] = (), options: Path | None = None) -> None:
        """Take the user's file, and folders that the environment names.

        Args:
            file: one absolute path a line; it need not exist.
            named: absolute paths.
            options: the saved plan that ``--set`` comes from; None when the user typed it.
        """
        self.file = file
        self._named = named
        self._options = options

    @cached_property
    def folders(self) -> tuple[Path, ...]:
        """Every trusted folder, links resolved.

        Raises:
            UserError: others may write the file, or a path is not absolute.
        """
        for path in self._named:
            if not path.is_absolute():
                hint = "name folders by absolute paths"
                raise UserError(Diagnostic(f"`{VARIABLE}` names `{path}`, which is relative", hint=hint))
            if path.resolve() != path:  # a link may lead elsewhere later; of others only the name counts
                sys.audit(LOOKED, path)
        return (*read_trusted(self.file), *(path.resolve() for path in self._named))

    def covers(self, path: Path) -> bool:
        """Whether ``path`` lies in a trusted folder, or is one."""
        real = path.resolve()
        return any(real.is_relative_to(folder) for folder in self.folders)

    def code_fault(self, path: Path, shown: str) -> Diagnostic | None:
        """Why the code at ``path``, which the spec calls ``shown``, may not run; None when it may."""
        if self.covers(path):
            return None
        return _refusal(f"`{shown}` holds code, and nobody has said that it may run", path)

    def author_fault(self, mark: Mark, said: str) -> Diagnostic | None:
        """Why what stands at ``mark`` does not count: it has power (``said``), and its author no trust."""
        author = self._options if mark.file == OPTION else mark.file
        if author is None or self.covers(author):
            return None  # the user has typed it, or trusts who has written it
        return replace(_refusal(f"{said}, and nobody trusts the author of this file", author), mark=mark)


def _refusal(message: str, path: Path) -> Diagnostic:
    """A diagnostic with the command that trusts the folder of ``path``."""
    real = path.resolve()
    folder = shlex.quote(str(real if real.is_dir() else real.parent))
    return Diagnostic(message, hint=f"read it, then `rlhfc trust {folder}`")


def read_trust(environment: Environment | None = None, options: Path | None = None) -> Trust:
    """What the user of this process trusts; ``options`` as for :class:`Trust`."""
    known = environment or read_environment()
    return Trust(known.trusted_file, known.trusted, options)


def read_trusted(file: Path) -> list[Path]:
    """Folders that the file lists, in its order; none where there is no file.

    Raises:
        UserError: somebody else may write it, or a line is no absolute path.
    """
    try:
        with file.open(encoding="utf-8", errors="surrogateescape") as stream:
            lines = stream.read().split("\n")
            _refuse_others(file, os.fstat(stream.fileno()))
        _refuse_others(file.parent, file.parent.stat())
    except FileNotFoundError:
        return []
    except OSError as error:
        raise UserError(Diagnostic(f"cannot read `{file}`: {error.strerror}")) from error
    for number, line in enumerate(lines, start=1):
        if line and not line.startswith("/"):
            mark = Mark(file, number, 1, len(line))
            raise UserError(Diagnostic("not an absolute path", mark, f"see `rlhfc trust --list` of `{file}`"))
    return [Path(line).resolve() for line in lines if line]


def _refuse_others(path: Path, state: os.stat_result) -> None:
    """Whoever can write the list, or put another in its place, could trust in the user's name."""
    fit = f"chmod go-w {shlex.quote(str(path))}"
    if state.st_uid not in (os.geteuid(), 0):
        raise UserError(Diagnostic(f"`{path}` belongs to another user", hint="remove it, and trust again"))
    if state.st_mode & WRITABLE_BY_OTHERS:
        raise UserError(
            Diagnostic(f"`{path}` can be written by others, so nothing is trusted", hint=f"`{fit}`")
        )
