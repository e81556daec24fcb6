"""The store: results by action key, trees and blobs by digest.

Reading never fails on damage: a record that does not say what was written, or that names a blob
that is gone, is a miss, said aloud. Writing is in ``publish.py``.
"""

from __future__ import annotations

import os
import sys
from collections.abc import Callable, Iterable, Mapping
from dataclasses import asdict, replace
from pathlib import Path
from typing import Any

from rlhfc.observe import LOOKED
from rlhfc.store import files
from rlhfc.store.checkpoints import newest_checkpoint, read_metrics
from rlhfc.store.digest import TreeEntry
from rlhfc.store.layout import Layout, check_version, create_store, hex_of
from rlhfc.store.ledger import Entry, Ledger
from rlhfc.store.publish import Product, Publisher
from rlhfc.store.records import (
    Acceptance,
    ActionResult,
    DamagedRecordError,
    Made,
    decode_document,
    decode_result,
    decode_tree,
)

Warn = Callable[[str], None]
DONE_EVENTS = ("published", "cached", "accepted")


def warn_on_stderr(text: str) -> None:
    """One line on stderr."""
    print(f"warning: {text}", file=sys.stderr)


class Store:
    """A store on a local or shared file system. Safe for threads, and for several runs at once."""

    def __init__(self, root: Path, warn: Warn = warn_on_stderr) -> None:
        self.layout = Layout(root)
        self._warned: set[str] = set()
        self._done: tuple[list[Entry], dict[tuple[str, str], list[str]]] | None = None
        self._warn_to = warn
        self.ledger = Ledger(self.layout.ledger, self._warn)

    @classmethod
    def open(cls, root: Path, warn: Warn = warn_on_stderr) -> Store:
        """Open a store to read from. A folder that is missing reads as empty; nothing is made.

        Raises:
            UserError: the folder is something else, or a store of another version.
        """
        check_version(root)
        return cls(root.absolute(), warn)

    @classmethod
    def create(cls, root: Path, warn: Warn = warn_on_stderr) -> Store:
        """Open a store to write to, made where it is missing.

        Raises:
            UserError: as :meth:`open`, or the folder cannot be made.
        """
        create_store(root)
        return cls(root.absolute(), warn)

    def lookup(self, key: str) -> ActionResult | None:
        """Return the result of an action, when its record, its trees and all their blobs are there."""
        path = self.layout.action(key)
        try:
            result = decode_result(path.read_bytes(), key)
            for tree in result.outputs.values():
                self._check_blobs(self._read_tree(tree))
        except FileNotFoundError:
            return None  # no record: nothing was published
        except DamagedRecordError as damage:
            self._warn(f"the result in `{path}` does not count: {damage}")
            return None
        return result

    def keys_from(self, start: str) -> list[str]:
        """Keys of the results that begin with ``start`` (``b3:`` and at least two digits), sorted."""
        folder = self.layout.action(start).parent
        digits = hex_of(start)
        try:
            names = [path.name for path in folder.iterdir()]
        except FileNotFoundError:
            return []
        found = (digits[:2] + name.removesuffix(".json") for name in names if name.endswith(".json"))
        return sorted(f"b3:{key}" for key in found if key.startswith(digits))

    def key_document(self, key: str) -> dict[str, Any] | None:
        """Pre-image of a key that was launched or published here."""
        path = self.layout.document(key)
        try:
            return decode_document(path.read_bytes())
        except FileNotFoundError:
            return None
        except DamagedRecordError as damage:
            self._warn(f"the key document `{path}` does not count: {damage}")
            return None

    def last_key(self, pipeline: str, stage: str) -> str | None:
        """Key under which the stage was last found or made whole in a run of this pipeline."""
        found = self._keys().get((pipeline, stage))
        return found[-1] if found else None

    def earlier_keys(self, pipeline: str, stage: str) -> list[str]:
        """Keys of the stage's results in this pipeline before the last one, newest first, each once."""
        return list(dict.fromkeys(reversed(self._keys().get((pipeline, stage), [])[:-1])))

    def made(self) -> list[Made]:
        """Every result that a run has made or found whole here, newest first."""
        done = (entry for entry in reversed(self.ledger.read()) if entry["event"] in DONE_EVENTS)
        return [Made(entry["pipeline"], entry["stage"], entry["key"]) for entry in done]

    def record(self, key: str) -> ActionResult | None:
        """What an action yielded, whether or not its files are still there."""
        try:
            return decode_result(self.layout.action(key).read_bytes(), key)
        except (FileNotFoundError, DamagedRecordError):
            return None  # told by `lookup`, where it matters

    def checkpoint(self, stage: str, key: str) -> tuple[int, int] | None:
        """Step of the newest complete checkpoint, and the step the stage ends at."""
        return newest_checkpoint(self.work(stage, key), key)

    def work(self, stage: str, key: str) -> Path:
        """Folder of the running action; it may not be there yet."""
        return self.layout.work(stage, key)

    def blob(self, digest: str) -> Path:
        """Read-only file with the bytes of ``digest``."""
        return self.layout.blob(digest)

    def metrics(self, result: ActionResult) -> list[dict[str, Any]]:
        """Metric lines of a result, oldest first; none when they were lost."""
        if result.metrics is None:
            return []
        try:
            return read_metrics(self.blob(result.metrics))
        except FileNotFoundError:
            self._warn(f"the metrics of `{result.key}` are gone")
            return []

    def tree(self, digest: str) -> list[TreeEntry]:
        """Files of a tree, sorted by path.

        Raises:
            DamagedRecordError: it is gone or damaged; ``lookup`` would have missed.
        """
        return self._read_tree(digest)

    def view(self, digest: str) -> Path:
        """Folder with the files of a tree, to read: hard links to the blobs.

        What strangers left in it, and names that no longer lead to the blob, are mended.

        Raises:
            DamagedRecordError: the tree or a blob is gone; ``lookup`` would have missed.
        """
        entries = self._read_tree(digest)
        self._check_blobs(entries)
        folder = self.layout.view(digest)
        if folder.is_dir():
            self._mend_view(folder, entries)
            return folder
        draft = self.layout.scratch / files.unique_name()
        draft.mkdir()
        self._mend_view(draft, entries)
        try:
            draft.rename(folder)
        except OSError:  # another run was quicker
            files.remove_tree(draft, self.layout.scratch)
            self._mend_view(folder, entries)
        return folder

    def publish(self, product: Product) -> ActionResult:
        """Record what an action yielded; when another run was first, its result instead.

        Raises:
            OSError: the disk is full or failing; then no record has been made.
        """
        result = Publisher(self.layout, self.lookup).publish(product)
        self.ledger.append(
            "published",
            run=product.run,
            pipeline=product.pipeline,
            stage=product.stage,
            key=product.key,
            seconds=result.seconds,
        )
        return result

    def accept(
        self,
        result: ActionResult,
        key: str,
        document: Mapping[str, Any],
        grounds: Acceptance,
        stage: tuple[str, str],
    ) -> ActionResult:
        """Let a result stand under another key as well; the ledger says who wanted it, and why.

        Args:
            result: as it was made.
            key: what it shall stand under.
            document: key document of ``key``.
            grounds: kept beside it.
            stage: names of the pipeline and the stage.
        """
        kept = {**document, "accepted": asdict(grounds)}
        adopted = Publisher(self.layout, self.lookup).adopt(replace(result, key=key), kept)
        facts = {"from": grounds.before, "who": grounds.who, "why": grounds.why}
        self.ledger.append("accepted", pipeline=stage[0], stage=stage[1], key=key, **facts)
        return adopted

    def forget(self, key: str) -> None:
        """Take back a result, so that the action is made again; its blobs stay."""
        path = self.layout.action(key)
        if path.exists():
            path.unlink(missing_ok=True)
            files.sync_folder(path.parent)
            self.ledger.append("forgotten", key=key)

    def write_document(self, key: str, document: Mapping[str, Any]) -> None:
        """Keep a key document, so that a later plan can say what changed."""
        Publisher(self.layout, self.lookup).write_document(key, document)

    def _mend_view(self, folder: Path, entries: Iterable[TreeEntry]) -> None:
        wanted = {entry.path: self.blob(entry.digest) for entry in entries}
        for found in list(files.walk_files(folder)):
            name = os.path.relpath(found.path, folder)
            blob = wanted.get(name)
            if blob is None:
                Path(found.path).unlink(missing_ok=True)
            elif _leads_to(found, blob):
                del wanted[name]
        for name, blob in wanted.items():
            target = folder / name
            target.parent.mkdir(parents=True, exist_ok=True)
            draft = self.layout.scratch / files.unique_name()
            files.link_or_copy(blob, draft, self.layout.scratch)
            draft.replace(target)

    def _read_tree(self, digest: str) -> list[TreeEntry]:
        path = self.layout.tree(digest)
        try:
            return decode_tree(path.read_bytes(), digest)
        except FileNotFoundError:
            raise DamagedRecordError(f"the tree `{path}` is gone") from None

    def _check_blobs(self, entries: Iterable[TreeEntry]) -> None:
        for entry in entries:
            path = self.blob(entry.digest)
            sys.audit(LOOKED, path)
            try:
                size = path.stat().st_size
            except FileNotFoundError:
                raise DamagedRecordError(f"`{entry.path}` is gone: `{path}`") from None
            if size != entry.size:
                raise DamagedRecordError(f"`{entry.path}` has {size} bytes, not {entry.size}: `{path}`")

    def _keys(self) -> dict[tuple[str, str], list[str]]:
        """Keys of each stage's results by pipeline and stage, oldest first."""
        entries = self.ledger.read()
        # The ledger gives a new list when it has grown.
        if self._done is None or self._done[0] is not entries:
            found: dict[tuple[str, str], list[str]] = {}
            for entry in (entry for entry in entries if entry["event"] in DONE_EVENTS):
                found.setdefault((entry["pipeline"], entry["stage"]), []).append(entry["key"])
            self._done = entries, found
        return self._done[1]

    def _warn(self, text: str) -> None:
        if text not in self._warned:
            self._warned.add(text)
            self._warn_to(text)


def _leads_to(found: os.DirEntry[str], blob: Path) -> bool:
    """Whether a view's file is the blob itself, or (where links fail) a copy of its size."""
    there, wanted = found.stat(follow_symlinks=False), blob.stat()
    if (there.st_dev, there.st_ino) == (wanted.st_dev, wanted.st_ino):
        return True
    return wanted.st_nlink == 1 and not found.is_symlink() and there.st_size == wanted.st_size
