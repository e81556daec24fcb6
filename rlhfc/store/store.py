"""The store: results by action key, trees and blobs by digest.

Reading never fails on damage: a record that does not say what was written, or that names a blob
that is gone, is a miss, said aloud. Writing is in ``publish.py``.
"""

from __future__ import annotations

import sys
from collections.abc import Callable, Mapping
from dataclasses import asdict, replace
from pathlib import Path
from typing import Any

from rlhfc.store import files
from rlhfc.store.blobs import Blobs, broken
from rlhfc.store.checkpoints import newest_checkpoint, read_metrics
from rlhfc.store.digest import TreeEntry
from rlhfc.store.layout import Layout, check_version, create_store, hex_of
from rlhfc.store.ledger import Ledger
from rlhfc.store.ledger_lines import Made
from rlhfc.store.locks import Locks
from rlhfc.store.publish import Product, Publisher
from rlhfc.store.records import (
    Acceptance,
    ActionResult,
    DamagedRecordError,
    decode_document,
    decode_result,
    decode_tree,
)
from rlhfc.store.views import Views

Warn = Callable[[str], None]


def warn_on_stderr(text: str) -> None:
    """One line on stderr."""
    print(f"warning: {text}", file=sys.stderr)


class Store:
    """A store on a local or shared file system. Safe for threads, and for several runs at once."""

    def __init__(self, root: Path, warn: Warn = warn_on_stderr, *, rehash: bool = False) -> None:
        self.layout = Layout(root)
        self._blobs = Blobs(self.layout, rehash=rehash)
        self._views = Views(self.layout, self._blobs)
        self._warned: set[str] = set()
        self._warn_to = warn
        self.ledger = Ledger(self.layout.ledger, self._warn)
        self.locks = Locks(self.layout, self._warn)

    @classmethod
    def open(cls, root: Path, warn: Warn = warn_on_stderr, *, rehash: bool = False) -> Store:
        """Open a store to read from. A folder that is missing reads as empty; nothing is made.

        With ``rehash`` every blob of a result is read, whatever its seal says.

        Raises:
            UserError: the folder is something else, or a store of another version.
        """
        check_version(root)
        return cls(root.absolute(), warn, rehash=rehash)

    @classmethod
    def create(cls, root: Path, warn: Warn = warn_on_stderr, *, rehash: bool = False) -> Store:
        """Open a store to write to, made where it is missing.

        Raises:
            UserError: as :meth:`open`, or the folder cannot be made.
        """
        create_store(root)
        return cls(root.absolute(), warn, rehash=rehash)

    def lookup(self, key: str) -> ActionResult | None:
        """Return the result of an action, when its record, its trees and all their blobs are there."""
        path = self.layout.action(key)
        try:
            result = decode_result(files.patiently(Path.read_bytes, path), key)
            for tree in result.outputs.values():
                self._blobs.check(self._read_tree(tree))
        except FileNotFoundError:
            return None  # no record: nothing was published
        except (DamagedRecordError, OSError) as error:
            if path.exists():  # else it was collected just now, record first
                self._warn(f"the result in `{path}` does not count: {_damage(error, path)}")
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
            return decode_document(files.patiently(Path.read_bytes, path))
        except FileNotFoundError:
            return None
        except (DamagedRecordError, OSError) as error:
            self._warn(f"the key document `{path}` does not count: {_damage(error, path)}")
            return None

    def last_key(self, pipeline: str, stage: str) -> str | None:
        """Key under which the stage was last found or made whole in a run of this pipeline."""
        found = self.ledger.keys(pipeline, stage)
        return found[-1] if found else None

    def earlier_keys(self, pipeline: str, stage: str) -> list[str]:
        """Keys of the stage's results in this pipeline before the last one, newest first, each once."""
        return list(dict.fromkeys(reversed(self.ledger.keys(pipeline, stage)[:-1])))

    def made(self) -> list[Made]:
        """Every result that a run has made or found whole here, newest first."""
        return self.ledger.made()[::-1]

    def record(self, key: str) -> ActionResult | None:
        """What an action yielded, whether or not its files are still there."""
        try:
            return decode_result(self.layout.action(key).read_bytes(), key)
        except (OSError, DamagedRecordError):
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
        path = self.blob(result.metrics)
        try:
            if self._blobs.whole(path, result.metrics):
                return read_metrics(path)
            self._warn(f"the metrics of `{result.key}` are damaged: `{path}`")
        except FileNotFoundError:
            self._warn(f"the metrics of `{result.key}` are gone")
        except OSError as error:
            self._warn(str(broken(error, f"metrics of `{result.key}`", path)))
        return []

    def tree(self, digest: str) -> list[TreeEntry]:
        """Files of a tree, sorted by path.

        Raises:
            DamagedRecordError: it is gone or damaged; ``lookup`` would have missed.
        """
        return self._read_tree(digest)

    def view(self, digest: str) -> Path:
        """Folder with the files of a tree, to read; see ``views.py``.

        What strangers left in it, and names that no longer lead to the blob, are mended.

        Raises:
            DamagedRecordError: the tree or a blob is gone; ``lookup`` would have missed.
        """
        with self.locks.sharing():
            return self._views.make(digest, self._read_tree(digest))

    def view_read(self, digest: str) -> Path:
        """The same folder, after every byte in it has been read and found right.

        Raises:
            DamagedRecordError: the tree is gone, or a blob is or was damaged: then it has gone into
                quarantine, and ``lookup`` misses from now on.
        """
        with self.locks.sharing():
            return self._views.make_read(digest, self._read_tree(digest))

    def publish(self, product: Product) -> ActionResult:
        """Record what an action yielded; when another run was first, its result instead.

        Raises:
            OSError: the disk is full or failing; then no record has been made.
        """
        with self.locks.sharing() as hold:
            result = Publisher(self.layout, self.lookup, hold.check).publish(product)
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

        Raises:
            DamagedRecordError: the result was removed meanwhile.
        """
        kept = {**document, "accepted": asdict(grounds)}
        with self.locks.sharing() as hold:
            if self.lookup(result.key) is None:
                raise DamagedRecordError(f"the result under `{result.key}` is gone")
            adopted = Publisher(self.layout, self.lookup, hold.check).adopt(replace(result, key=key), kept)
        facts = {"from": grounds.before, "who": grounds.who, "why": grounds.why}
        self.ledger.append("accepted", pipeline=stage[0], stage=stage[1], key=key, **facts)
        return adopted

    def forget(self, key: str, result: ActionResult | None) -> None:
        """Take back a result, but no other under its key, so that it is made again; its blobs stay."""
        path = self.layout.action(key)
        if path.exists() and self.record(key) == result:
            path.unlink(missing_ok=True)
            files.sync_folder(path.parent)
            self.ledger.append("forgotten", key=key)

    def write_document(self, key: str, document: Mapping[str, Any]) -> None:
        """Keep a key document, so that a later plan can say what changed."""
        Publisher(self.layout, self.lookup).write_document(key, document)

    def _read_tree(self, digest: str) -> list[TreeEntry]:
        path = self.layout.tree(digest)
        try:
            return decode_tree(files.patiently(Path.read_bytes, path), digest)
        except FileNotFoundError:
            raise DamagedRecordError(f"the tree `{path}` is gone") from None
        except OSError as error:
            raise broken(error, "the tree", path) from error

    def _warn(self, text: str) -> None:
        if text not in self._warned:
            self._warned.add(text)
            self._warn_to(text)


def _damage(error: DamagedRecordError | OSError, path: Path) -> DamagedRecordError:
    return broken(error, "the file", path) if isinstance(error, OSError) else error
