"""Views: the folders that stages read, made from blobs by reflink, else by hard link, else as copies.

A reflink shares the disk's blocks and nothing else: a stage that runs as root, or that makes its
input writable, changes its view and no blob. Views are made again where they differ.
"""

from __future__ import annotations

import os
from collections.abc import Sequence
from pathlib import Path

from rlhfc.store import files
from rlhfc.store.blobs import Blobs, broken
from rlhfc.store.digest import TreeEntry
from rlhfc.store.layout import Layout
from rlhfc.store.records import DamagedRecordError
from rlhfc.store.seal import is_sealed


class Views:
    """The views of one store."""

    def __init__(self, layout: Layout, blobs: Blobs) -> None:
        self._layout = layout
        self._blobs = blobs

    def make(self, digest: str, entries: Sequence[TreeEntry]) -> Path:
        """Folder with the files of a tree; what is there already is mended where it differs.

        Raises:
            DamagedRecordError: a blob is gone or damaged.
        """
        self._blobs.check(entries)
        folder = self._layout.view(digest)
        if folder.is_dir():
            self._mend(folder, entries)
            return folder
        draft = self._layout.scratch / files.unique_name()
        draft.mkdir()
        self._mend(draft, entries)
        try:
            draft.rename(folder)
        except OSError:  # another run was quicker
            files.remove_tree(draft, self._layout.scratch)
            self._mend(folder, entries)
        return folder

    def make_read(self, digest: str, entries: Sequence[TreeEntry]) -> Path:
        """The same, and every byte in it has been read and is right.

        Raises:
            DamagedRecordError: a blob is gone or damaged; a damaged one has gone into quarantine, so
                that its result is a miss from now on.
        """
        folder = self.make(digest, entries)
        bad = [entry for entry in entries if not self._whole(folder / entry.path, entry)]
        if not bad:
            return folder
        for entry in bad:
            (folder / entry.path).unlink(missing_ok=True)
            if not self._whole(self._layout.blob(entry.digest), entry):
                self._blobs.put_aside(entry.digest)
                raise DamagedRecordError(f"`{entry.path}` holds other bytes than were published")
        return self.make(digest, entries)

    def _whole(self, path: Path, entry: TreeEntry) -> bool:
        try:
            return self._blobs.whole(path, entry.digest)
        except OSError as error:
            broken(error, f"`{entry.path}`", path)
            return False

    def _mend(self, folder: Path, entries: Sequence[TreeEntry]) -> None:
        for path in wrong_files(self._layout, folder, entries):
            path.unlink(missing_ok=True)
        for entry in entries:
            if not (folder / entry.path).is_file():
                self._place(folder / entry.path, entry)

    def _place(self, target: Path, entry: TreeEntry) -> None:
        target.parent.mkdir(parents=True, exist_ok=True)
        if target.is_dir():  # a stranger's, under the name of a file
            files.remove_tree(target, self._layout.scratch)
        draft = self._layout.scratch / files.unique_name()
        files.materialise(self._layout.blob(entry.digest), draft, self._layout.scratch)
        draft.replace(target)


def wrong_files(layout: Layout, folder: Path, entries: Sequence[TreeEntry]) -> list[Path]:
    """Files of a view that do not belong to its tree, or no longer have the bytes that they had."""
    wanted = {entry.path: entry for entry in entries}
    wrong = []
    for found in files.walk_files(folder):
        entry = wanted.get(os.path.relpath(found.path, folder))
        if entry is None or not _holds(found, entry, layout.blob(entry.digest)):
            wrong.append(Path(found.path))
    return wrong


def _holds(found: os.DirEntry[str], entry: TreeEntry, blob: Path) -> bool:
    """Whether a view's file is the blob itself, or a sealed file of its own."""
    state = found.stat(follow_symlinks=False)
    if found.is_symlink() or state.st_size != entry.size:
        return False
    if is_sealed(state, entry.digest):
        return True
    try:
        whole = blob.stat()
    except OSError:
        return False
    return (state.st_dev, state.st_ino) == (whole.st_dev, whole.st_ino)
