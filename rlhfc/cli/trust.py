"""``rlhfc trust``: say whose code may run when a spec leads to it."""

from __future__ import annotations

import argparse
import os
from collections.abc import Iterable, Sequence
from pathlib import Path

from rlhfc.environment import read_environment
from rlhfc.errors import Diagnostic, UserError
from rlhfc.store.files import write_atomic
from rlhfc.trust import VARIABLE, read_trusted

OWNER_ONLY = 0o600


def run(arguments: argparse.Namespace) -> int:
    """Trust folders, no longer trust them, or list them.

    Raises:
        UserError: a folder is none, the list cannot be written, or others may write it.
    """
    environment = read_environment()
    if arguments.list:
        if arguments.folders or arguments.remove:
            raise UserError(Diagnostic("`--list` goes alone", hint="see `rlhfc trust --help`"))
        _list(environment.trusted_file, environment.trusted)
        return 0
    if not arguments.folders:
        raise UserError(Diagnostic("no folder is named", hint="`rlhfc trust DIR`, or `rlhfc trust --list`"))
    change = _remove if arguments.remove else _add
    change(environment.trusted_file, [Path(folder).expanduser().resolve() for folder in arguments.folders])
    return 0


def _list(file: Path, named: Iterable[Path]) -> None:
    for folder in read_trusted(file):
        print(folder)
    for folder in named:
        print(f"{folder} (`{VARIABLE}`)")


def _add(file: Path, folders: Sequence[Path]) -> None:
    missing = [folder for folder in folders if not folder.is_dir()]
    if missing:
        raise UserError(Diagnostic(f"`{folder}` is no folder") for folder in missing)
    unfit = [folder for folder in folders if not str(folder).isprintable()]
    if unfit:
        raise UserError(Diagnostic(f"{str(folder)!r} cannot stand in a line") for folder in unfit)
    known = read_trusted(file)
    _write(file, dict.fromkeys([*known, *folders]))
    for folder in folders:
        print(f"trusted already: {folder}" if folder in known else f"trusted: {folder}")


def _remove(file: Path, folders: Sequence[Path]) -> None:
    known = read_trusted(file)
    unknown = [folder for folder in folders if folder not in known]
    if unknown:
        hint = "see `rlhfc trust --list`; a folder above it may be trusted"
        raise UserError(Diagnostic(f"`{folder}` is not on the list", hint=hint) for folder in unknown)
    _write(file, [folder for folder in known if folder not in folders])
    for folder in folders:
        print(f"no longer trusted: {folder}")


def _write(file: Path, folders: Iterable[Path]) -> None:
    text = "".join(f"{folder}\n" for folder in folders)
    try:
        file.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
        write_atomic(file, os.fsencode(text), OWNER_ONLY)
    except OSError as error:
        raise UserError(Diagnostic(f"cannot write `{file}`: {error.strerror}")) from error
