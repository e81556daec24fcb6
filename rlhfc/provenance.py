"""Which commit a spec is of, and whether it has been edited since.

What the answer was taken from is told to :mod:`rlhfc.observe`, so that a plan that is remembered is
made anew after a commit. Outside of a repository there is no answer, and no error; where git fails there
is none either, and the plan is not remembered.
"""

from __future__ import annotations

import sys
from collections.abc import Iterator, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from rlhfc.git import GitError, git, without_filters
from rlhfc.observe import DOUBT, LOOKED


@dataclass(frozen=True)
class Commit:
    """State of some files in their repository.

    Attributes:
        id: full hash of the commit that is checked out.
        dirty: whether one of the files is not as it is in that commit, or not in it at all.
        branch: the branch that is checked out, or None.
    """

    id: str
    dirty: bool
    branch: str | None = None

    @property
    def document(self) -> dict[str, Any]:
        """Plain values, for plans and the ledger."""
        return asdict(self)


def commit_of(files: Sequence[Path]) -> Commit | None:
    """The commit of the repository that the first file lies in, seen from all of them.

    Args:
        files: absolute paths; those outside of the repository do not count.
    """
    folder = files[0].parent
    if not any(_is_repository(above) for above in (folder, *folder.parents)):
        return None
    try:
        top, own, common = map(Path, _lines(git(folder, "rev-parse", *_PLACES)))
        inside = {str(path) for file in files for path in _names(file) if path.is_relative_to(top)}
        if not inside:
            return None
        status = git(folder, *without_filters(folder), *_STATUS, "--", *sorted(inside))
    except (GitError, ValueError):
        sys.audit(DOUBT)  # there is a repository: a git that is slow or busy may answer the next time
        return None
    found = _parse(_lines(status))
    for path in _watched(own, common, found.branch if found else None):
        sys.audit(LOOKED, path)
    return found


_PLACES = ("--path-format=absolute", "--show-toplevel", "--git-dir", "--git-common-dir")
_STATUS = (
    *("status", "--porcelain=v2", "--branch", "--untracked-files=all", "--ignored=matching"),
    "--ignore-submodules=all",
)


def _names(file: Path) -> tuple[Path, Path]:
    """A file as git calls it, and what it is when it is a link."""
    return file.parent.resolve() / file.name, file.resolve()


def _is_repository(folder: Path) -> bool:
    """Whether ``folder`` has a ``.git``; as a folder it is not watched: git touches it all the time."""
    found = folder / ".git"
    if not found.is_dir():
        sys.audit(LOOKED, found)
    return found.exists()


def _parse(status: Sequence[str]) -> Commit | None:
    """Take the commit from git's headers; any other line is a file that differs."""
    headers = dict(line[len("# branch.") :].split(" ", 1) for line in status if line.startswith("# branch."))
    oid, branch = headers.get("oid", "(initial)"), headers.get("head", "(detached)")
    if oid == "(initial)":  # nothing has been committed yet
        return None
    dirty = any(not line.startswith("#") for line in status)
    return Commit(oid, dirty, None if branch == "(detached)" else branch)


def _watched(own: Path, common: Path, branch: str | None) -> Iterator[Path]:
    """Files whose change may change the answer."""
    yield from (own / "HEAD", own / "index")
    yield from (common / "packed-refs", common / "reftable" / "tables.list")
    if branch is not None:
        yield common / "refs" / "heads" / branch


def _lines(output: bytes) -> list[str]:
    return output.decode(errors="surrogateescape").splitlines()
