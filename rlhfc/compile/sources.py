"""Inputs that no stage makes: where they lie and what they hold."""

from __future__ import annotations

import re
from pathlib import Path

from rlhfc.compile.action import ResolvedSource
from rlhfc.compile.hub import COMMIT, RepositoryType, cached_commit
from rlhfc.compile.mirrors import HUB_ID, HUB_ID_HINT
from rlhfc.compile.world import World
from rlhfc.errors import Diagnostic, UserError, listing
from rlhfc.kind import InputModel

# What a single file may be, by the type of the input that it serves.
SUFFIXES = {
    "model": (".gguf",),
    "data": (".jsonl", ".jsonl.gz", ".json", ".parquet"),
    "code": (".py",),
}
REVISION = re.compile(r"^[A-Za-z0-9][A-Za-z0-9._/-]*$")


def resolve_source(given: InputModel, accepted: str, folder: Path, world: World) -> ResolvedSource:
    """Find a source and what it holds.

    Args:
        given: names a ``path:`` or ``hub:``.
        accepted: type of the input, for example ``model`` or ``data``.
        folder: relative paths start here.
        world: mirrors, digests and the hub's cache.

    Raises:
        UserError: nothing is there, it is of the wrong form, or the hub id is malformed.
    """
    if given.path is not None:
        path = folder / Path(given.path).expanduser()
        return _local(path, given.file, accepted, f"path:{given.path}", world)
    assert given.hub is not None
    if not HUB_ID.fullmatch(given.hub) or ".." in given.hub or "--" in given.hub:
        raise UserError(
            Diagnostic(f"`{given.hub}` is not a hub id", hint=HUB_ID_HINT + " or, for a folder, use `path:`")
        )
    if given.revision is not None and (not REVISION.fullmatch(given.revision) or ".." in given.revision):
        raise UserError(Diagnostic(f"`{given.revision}` is not a commit, tag or branch"))
    mirror = world.mirrors.find(given.hub)
    if mirror is None:
        return _from_hub(given, accepted, world)
    path = mirror.locate()
    return _local(path, None if path.is_file() else given.file, accepted, f"hub:{given.hub}", world)


def _local(path: Path, file: str | None, accepted: str, origin: str, world: World) -> ResolvedSource:
    """A folder, or one file: given as such or named inside a folder."""
    if not path.exists():
        raise UserError(Diagnostic(f"`{path}` does not exist"))
    path = path.absolute()
    if file is not None:
        path = _inside(path, file)
    if path.is_dir():
        return ResolvedSource(origin, world.digests.folder(path), path)
    suffixes = SUFFIXES.get(accepted)
    if suffixes is None:
        raise UserError(Diagnostic(f"`{path}` is a file where a folder is needed"))
    if not path.name.endswith(suffixes):
        raise UserError(
            Diagnostic(
                f"`{path.name}` has a suffix that is not known for {accepted}",
                hint=f"use {listing(suffixes)}",
            )
        )
    return ResolvedSource(origin, world.digests.file(path), path.parent, path.name)


def _inside(folder: Path, file: str) -> Path:
    if not folder.is_dir():
        raise UserError(
            Diagnostic(f"`file: {file}` needs a folder, and `{folder}` is a file", hint="leave `file:` out")
        )
    if Path(file).is_absolute() or ".." in Path(file).parts:
        raise UserError(Diagnostic(f"`file: {file}` leads out of its folder"))
    if not (folder / file).is_file():
        raise UserError(Diagnostic(f"`{folder}` holds no file `{file}`"))
    return folder / file


def _from_hub(given: InputModel, accepted: str, world: World) -> ResolvedSource:
    assert given.hub is not None
    repository: RepositoryType = "dataset" if accepted == "data" else "model"
    revision = given.revision
    commit = revision if revision and COMMIT.fullmatch(revision) else None
    if commit is None:
        commit = cached_commit(world.hub_cache, repository, given.hub, revision)
    origin = f"hub:{given.hub}@{revision}" if revision else f"hub:{given.hub}"
    if commit is None:
        named = f"commit of `{revision}`" if revision else "newest commit"
        return ResolvedSource(
            origin,
            None,
            file=given.file,
            hub=(given.hub, revision or "main"),
            unresolved=f"the {named} of `{given.hub}` is not known here: pin it with `revision:` "
            f"(40 hex digits) or use `--mirror {given.hub}=FOLDER`",
        )
    # The file is part of what is read: two GGUF files of one commit are two models.
    digest = f"hub:{commit}/{given.file}" if given.file else f"hub:{commit}"
    return ResolvedSource(origin, digest, file=given.file, hub=(given.hub, commit))
