"""A spec as a commit has it: read from git's objects, whatever the working tree holds."""

from __future__ import annotations

import errno
import os
from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path

from rlhfc.errors import Diagnostic, UserError
from rlhfc.git import GitError, git
from rlhfc.spec.load import PipelineSpec, load_pipeline

_CONTENT = ("cat-file", "--batch", "--follow-symlinks")


@dataclass(frozen=True)
class Revision:
    """``main~3:pipelines/llama2.yaml``, found.

    Attributes:
        name: as the user wrote it.
        commit: full hash.
        top: folder of the working tree.
        path: where the file would be in the working tree.
    """

    name: str
    commit: str
    top: Path
    path: Path


def find_revision(argument: str, here: Path) -> Revision:
    """Find the commit and the file that ``REVISION:PATH`` names.

    Args:
        argument: a path is relative to the repository, and to ``here`` when it begins with ``./``.
        here: a folder in the repository.

    Raises:
        UserError: there is no repository, or the revision is not in it.
    """
    name, _, path = argument.partition(":")
    try:
        top = Path(os.fsdecode(git(here, "rev-parse", "--show-toplevel")).rstrip("\n"))
    except GitError as error:
        hint = "`REVISION:PATH` is a spec as a commit has it"
        raise UserError(Diagnostic(f"cannot look up `{argument}`: {error}", hint=hint)) from error
    try:
        commit = git(here, "rev-parse", "--verify", "--quiet", "--end-of-options", f"{name}^{{commit}}")
    except GitError as error:
        raise UserError(Diagnostic(f"git knows no revision `{name}`", hint="see `git log`")) from error
    below = here if path.startswith(("./", "../")) else top
    return Revision(argument, commit.decode().strip(), top, Path(os.path.normpath(below / path)))


def load_revision(revision: Revision) -> PipelineSpec:
    """Load the spec of a commit, and what it includes. Kinds of its own are those of the working tree.

    Raises:
        UserError: the commit has no such file, or the spec in it is wrong; the marks name the revision.
    """
    try:
        return load_pipeline(revision.path, read=_reader(revision), identity=_identity)
    except UserError as error:
        raise UserError([_in_revision(fault, revision) for fault in error.diagnostics]) from None


def _reader(revision: Revision) -> Callable[[Path], bytes]:
    def read(path: Path) -> bytes:
        absolute = Path(os.path.normpath(path.absolute()))
        if not absolute.is_relative_to(revision.top):
            return path.read_bytes()
        name = absolute.relative_to(revision.top).as_posix()
        try:
            content = _content(revision, name)
        except GitError as error:
            raise OSError(errno.EIO, str(error), str(path)) from error
        if content is None:
            where = f"not in `{revision.name.partition(':')[0]}`"
            raise FileNotFoundError(errno.ENOENT, where, str(path))
        return content

    return read


def _content(revision: Revision, name: str) -> bytes | None:
    """What a file holds in the commit, links followed as the commit has them; None where there is none."""
    asked = f"{revision.commit}:{name}\n".encode(errors="surrogateescape")
    head, _, rest = git(revision.top, *_CONTENT, given=asked).partition(b"\n")
    kind, _, size = head.rpartition(b" ")
    if kind == b"symlink":  # leads out of the repository
        return (revision.top / os.fsdecode(rest[: int(size)])).read_bytes()
    return rest[: int(size)] if kind.endswith(b" blob") else None


def _identity(path: Path) -> Path:
    """Two names of one file are told by their text: links of the working tree are none of the commit."""
    return Path(os.path.normpath(path.absolute()))


def _in_revision(fault: Diagnostic, revision: Revision) -> Diagnostic:
    """The same mistake, at its place in the commit: the working tree may have other lines there."""
    name, mark = revision.name.partition(":")[0], fault.mark
    message = fault.message.replace(f"{revision.top}{os.sep}", "")
    if mark is None or not mark.file.is_absolute() or not mark.file.is_relative_to(revision.top):
        return replace(fault, message=message)
    file = Path(f"{name}:{mark.file.relative_to(revision.top).as_posix()}")
    return replace(fault, message=message, mark=replace(mark, file=file))
