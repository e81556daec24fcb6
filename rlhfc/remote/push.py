"""Pushing: blobs, trees, key document, and last the record, so that what has a record is whole.

What is there under its name with its size is not sent again, so that a push which was cut off goes
on where it was; what is sent has been hashed just before.
"""

from __future__ import annotations

from enum import StrEnum

from rlhfc.remote.place import Place, action_path, blob_path, document_path, tree_path
from rlhfc.remote.progress import Tally
from rlhfc.remote.record import RECORD_LIMIT, RefusedError, Shared, decode_shared, decode_shared_tree, shared
from rlhfc.remote.sign import Signer
from rlhfc.remote.workers import for_each
from rlhfc.store.digest import bytes_digest, file_digest
from rlhfc.store.records import ActionResult, DamagedRecordError, encode_document, encode_tree
from rlhfc.store.store import Store


class Pushed(StrEnum):
    """What came of one result."""

    SENT = "pushed"
    SIGNED = "signed"
    THERE = "there already"
    OTHER = "there with other outputs, which stay"


class Pusher:
    """Pushes results of one store to one place."""

    def __init__(self, store: Store, place: Place, signer: Signer | None, tally: Tally) -> None:
        self._store, self._place, self._signer, self.tally = store, place, signer, tally
        self._sent: set[str] = set()

    def push(self, result: ActionResult) -> Pushed:
        """Push one result that the store holds.

        Raises:
            DamagedRecordError: the store no longer has all of it, or not as it was.
            RefusedError: whoever pulls it would refuse it.
            RemoteError: the place cannot be used.
        """
        trees = {digest: self._store.tree(digest) for digest in result.outputs.values()}
        kept = self._store.key_document(result.key)
        if kept is None:
            raise DamagedRecordError("its key document is gone")
        document = encode_document(kept)
        blobs = {entry.digest: entry.size for entries in trees.values() for entry in entries}
        metrics = self._metrics_size(result)
        if result.metrics is not None and metrics is not None:
            blobs[result.metrics] = metrics
        record = shared(result, document, metrics)
        if self._signer is not None:
            record = self._signer.signed(record)
        encoded = {digest: encode_tree(entries) for digest, entries in trees.items()}
        for digest, data in encoded.items():
            decode_shared_tree(data, digest)
        for_each(blobs.items(), lambda blob: self._send_blob(*blob))
        for digest, data in encoded.items():
            self._send_small(tree_path(digest), data)
        self._send_small(document_path(bytes_digest(document)), document)
        return self._send_record(record)

    def _metrics_size(self, result: ActionResult) -> int | None:
        """Bytes of the metrics.

        Raises:
            DamagedRecordError: the result has some, and they are gone.
        """
        if result.metrics is None:
            return None
        try:
            return self._store.blob(result.metrics).stat().st_size
        except FileNotFoundError:
            raise DamagedRecordError("its metrics are gone") from None

    def _send_blob(self, digest: str, size: int) -> None:
        path = blob_path(digest)
        if digest in self._sent:
            return
        if self._place.size(path) == size:
            self.tally.skip()
        else:
            source = self._store.blob(digest)
            try:
                found = file_digest(source)
            except FileNotFoundError:
                raise DamagedRecordError(f"`{source}` is gone") from None
            if found != digest:
                raise DamagedRecordError(f"`{source}` is not what was stored")
            self._place.send(source, path)
            self.tally.add(size)
            self.tally.done()
        self._sent.add(digest)

    def _send_small(self, path: str, data: bytes) -> None:
        if self._place.size(path) == len(data):
            self.tally.skip()
            return
        self._place.replace(path, data)
        self.tally.add(len(data))
        self.tally.done()

    def _send_record(self, record: Shared) -> Pushed:
        path, data = action_path(record.key), record.encoded()
        if self._place.create(path, data):
            self.tally.add(len(data))
            self.tally.done()
            return Pushed.SENT
        there = self._record_there(path, record.key)
        if there is None:  # damaged: it stands for nothing
            self._place.replace(path, data)
            return Pushed.SENT
        if there.result != record.result:
            return Pushed.OTHER if there.result.outputs != record.result.outputs else Pushed.THERE
        if record.signature is not None and there.signature is None:
            self._place.replace(path, data)
            return Pushed.SIGNED
        return Pushed.THERE

    def _record_there(self, path: str, key: str) -> Shared | None:
        try:
            return decode_shared(self._place.read(path, 0, RECORD_LIMIT + 1), key)
        except (RefusedError, FileNotFoundError):
            return None
