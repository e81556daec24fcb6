"""Quarantine: what is damaged is put aside with the reason, and deleted by nobody but the user."""

from __future__ import annotations

import errno
import json
import os
import secrets
from collections.abc import Sequence
from contextlib import suppress
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path

from rlhfc.store.files import make_folder, sync_folder, write_atomic
from rlhfc.store.ledger import utc_now

WHY = "why.json"
WHY_FORMAT = 1


@dataclass(frozen=True)
class Outcast:
    """A file or folder to put aside.

    Attributes:
        path: where it lies in the store.
        why: in words.
    """

    path: Path
    why: str


class Quarantine:
    """One folder ``quarantine/<UTC time>-<random>/``, made when something is put there."""

    def __init__(self, root: Path) -> None:
        """Take the store's folder."""
        self._root = root
        name = f"{datetime.now(UTC):%Y%m%dT%H%M%SZ}-{secrets.token_hex(4)}"
        self.folder = root / "quarantine" / name
        self._rows: list[dict[str, str]] = []

    @property
    def used(self) -> bool:
        """Whether anything has been put here."""
        return bool(self._rows)

    def take(self, outcasts: Sequence[Outcast]) -> None:
        """Move files or folders of the store here, under the paths that they have.

        ``why.json`` is written first, so that no crash leaves something here without a reason. What
        is gone already is passed over.

        Raises:
            OSError: something cannot be moved; the rest has been.
        """
        make_folder(self.folder)
        self._rows += [{"path": str(each.path.relative_to(self._root)), "why": each.why} for each in outcasts]
        text = {"format": WHY_FORMAT, "time": utc_now(), "files": self._rows}
        write_atomic(self.folder / WHY, (json.dumps(text, indent=1, ensure_ascii=False) + "\n").encode())
        failed: OSError | None = None
        for each in outcasts:
            try:
                _move(each.path, self.folder / each.path.relative_to(self._root))
            except FileNotFoundError:
                continue
            except OSError as error:
                failed = error
        if failed is not None:
            raise failed


def put_aside(root: Path, path: Path, why: str) -> None:
    """Put one file or folder of a store into a quarantine of its own.

    Raises:
        OSError: it cannot be moved.
    """
    Quarantine(root).take([Outcast(path, why)])


def _move(path: Path, target: Path) -> None:
    make_folder(target.parent)
    if path.is_file() and not path.is_symlink():
        with suppress(OSError):  # other names of it must not pass for sealed (see seal.py)
            os.utime(path)
    if target.exists():
        raise FileExistsError(errno.EEXIST, "is in quarantine already", str(path))
    path.rename(target)
    sync_folder(target.parent)
    sync_folder(path.parent)
