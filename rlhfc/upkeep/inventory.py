"""What lies in a store, and what removing each thing would free. Reads only."""

from __future__ import annotations

import os
import stat
import time
from collections import Counter
from collections.abc import Iterator, Mapping
from contextlib import suppress
from dataclasses import dataclass, replace
from pathlib import Path

from rlhfc.store.files import listed, unique_name
from rlhfc.store.layout import Layout
from rlhfc.store.records import ActionResult, DamagedRecordError, decode_result, decode_tree
from rlhfc.upkeep.work import Work, read_works

DRAFT_SECONDS = 3600.0
"""After which what lies in `tmp/`, or has a draft's name, belongs to nobody."""
GRAVE = "gc-"
BLOCK = 512  # what st_blocks counts
Inode = tuple[int, int]


@dataclass(frozen=True)
class Result:
    """A record that can be read.

    Attributes:
        age: seconds since it was published, by the clock of the file system.
    """

    result: ActionResult
    age: float


@dataclass(frozen=True)
class Inventory:
    """A store at one moment.

    Attributes:
        now: seconds since the epoch, by the clock of the store's file system.
        results: by key.
        trees: tree digest to its blobs; those that are damaged hold none.
        blobs: digest to the bytes of disk that are free once it and all views of it are gone: none,
            when a file outside of the store shares them.
        views: tree digest to the bytes that are its own.
        works: folders of actions.
        rubbish: what belongs to nobody, with its bytes.
    """

    now: float
    results: Mapping[str, Result]
    trees: Mapping[str, frozenset[str]]
    blobs: Mapping[str, int]
    views: Mapping[str, int]
    works: tuple[Work, ...]
    rubbish: Mapping[Path, int]

    @property
    def size(self) -> int:
        """Bytes of disk that all of it takes."""
        parts = (self.blobs, self.views, self.rubbish)
        return sum(sum(part.values()) for part in parts) + sum(work.size for work in self.works)


def take_inventory(layout: Layout, old: float) -> Inventory:
    """Look at everything.

    Args:
        layout: where it lies.
        old: seconds after which what is in quarantine goes.
    """
    now = file_system_now(layout)
    results = dict(_results(layout, now))
    trees = {digest: _blobs_of(layout, digest) for digest in _digests(layout, "trees", ".json")}
    states = {
        digest: state for digest in _digests(layout, "objects", "") for state in _states(layout.blob(digest))
    }
    owned = {(state.st_dev, state.st_ino) for state in states.values()}
    links: Counter[Inode] = Counter()
    views = {}
    for folder in listed(layout.root / "views"):
        inside = [(state.st_dev, state.st_ino, state.st_blocks) for state in _states(folder)]
        links.update((device, inode) for device, inode, _ in inside if (device, inode) in owned)
        own = sum(blocks for device, inode, blocks in inside if (device, inode) not in owned)
        views[f"b3:{folder.name}"] = own * BLOCK
    blobs = {
        digest: state.st_blocks * BLOCK if state.st_nlink <= 1 + links[state.st_dev, state.st_ino] else 0
        for digest, state in states.items()
    }
    works = tuple(read_works(layout, now))
    return Inventory(now, results, trees, blobs, views, works, dict(_rubbish(layout, now, old)))


def look_again(before: Inventory, layout: Layout) -> Inventory:
    """The same with the records of now. Blobs that have come meanwhile are not in it, so they stay."""
    results = dict(_results(layout, before.now))
    wanted = {tree for found in results.values() for tree in found.result.outputs.values()}
    trees = {**before.trees, **{tree: _blobs_of(layout, tree) for tree in wanted - {*before.trees}}}
    return replace(before, results=results, trees=trees, works=tuple(read_works(layout, before.now)))


def file_system_now(layout: Layout) -> float:
    """Time by the clock that stamps the store's files; our own where we may not write."""
    probe = layout.scratch / unique_name()
    try:
        probe.touch()
        return probe.stat().st_mtime
    except OSError:
        return time.time()
    finally:
        with suppress(OSError):
            probe.unlink(missing_ok=True)


def disk_usage(layout: Layout) -> int:
    """Bytes of disk that the store takes, each file once whatever its names."""
    sizes = {(state.st_dev, state.st_ino): state.st_blocks for state in _states(layout.root)}
    return sum(sizes.values()) * BLOCK


def folder_size(folder: Path) -> int:
    """Bytes of disk that go with a file or folder: those of files with no name elsewhere."""
    return sum(state.st_blocks for state in _states(folder) if state.st_nlink == 1) * BLOCK


def _results(layout: Layout, now: float) -> Iterator[tuple[str, Result]]:
    for key in _digests(layout, "actions", ".json"):
        path = layout.action(key)
        with suppress(FileNotFoundError, DamagedRecordError):  # damaged: fsck's, and nobody's result
            yield key, Result(decode_result(path.read_bytes(), key), now - path.stat().st_mtime)


def _blobs_of(layout: Layout, tree: str) -> frozenset[str]:
    try:
        return frozenset(entry.digest for entry in decode_tree(layout.tree(tree).read_bytes(), tree))
    except (FileNotFoundError, DamagedRecordError):
        return frozenset()


def _digests(layout: Layout, folder: str, suffix: str) -> Iterator[str]:
    for part in listed(layout.root / folder):
        for path in listed(part):
            if path.name.endswith(suffix) and not path.name.startswith("."):
                yield f"b3:{part.name}{path.name.removesuffix(suffix)}"


def _rubbish(layout: Layout, now: float, old: float) -> Iterator[tuple[Path, int]]:
    for path in listed(layout.scratch):
        if path.name.startswith(GRAVE) or _age(path, now) > DRAFT_SECONDS:
            yield path, folder_size(path)
    for path in listed(layout.root / "quarantine"):
        if _age(path, now) > old:
            yield path, folder_size(path)
    for folder in ("trees", "keydocs", "pins", "tags", "locks", "work"):
        for path in _hidden(layout.root / folder):
            if _age(path, now) > DRAFT_SECONDS:
                yield path, folder_size(path)


def _hidden(folder: Path) -> Iterator[Path]:
    """Drafts in a folder and in those right below: what stages write themselves lies deeper."""
    for path in listed(folder):
        for each in (path, *listed(path)):
            if each.name.startswith("."):
                yield each


def _age(path: Path, now: float) -> float:
    """Seconds since the newest sign of life in a file or folder."""
    newest = max((max(state.st_mtime, state.st_ctime) for state in _states(path)), default=0.0)
    with suppress(FileNotFoundError):
        newest = max(newest, path.stat(follow_symlinks=False).st_ctime)
    return now - newest


def _states(path: Path) -> Iterator[os.stat_result]:
    """State of every file at or below a path; what goes meanwhile is left out."""
    with suppress(FileNotFoundError):
        state = path.stat(follow_symlinks=False)
        if not stat.S_ISDIR(state.st_mode):
            yield state
            return
        for below in path.iterdir():
            yield from _states(below)
