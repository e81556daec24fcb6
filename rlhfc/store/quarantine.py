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


def put_aside(root: Path, outcasts: Sequence[Outcast]) -> Path:
    """Move files or folders of a store to ``quarantine/<UTC time>-<random>/``, where they keep their paths.

    ``why.json`` is written first, so that no crash leaves something there without a reason; what is
    gone already is passed over.

    Args:
        root: the store's folder.
        outcasts: what to move; all below ``root``.

    Returns:
        The folder that holds them now.

    Raises:
        OSError: something cannot be moved; the rest has been.
    """
    folder = root / "quarantine" / f"{datetime.now(UTC):%Y%m%dT%H%M%SZ}-{secrets.token_hex(4)}"
    make_folder(folder)
    rows = [{"path": str(each.path.relative_to(root)), "why": each.why} for each in outcasts]
    text = {"format": WHY_FORMAT, "time": utc_now(), "files": rows}
    write_atomic(folder / WHY, (json.dumps(text, indent=1, ensure_ascii=False) + "\n").encode())
    failed: OSError | None = None
    for each in outcasts:
        try:
            _move(each.path, folder / each.path.relative_to(root))
        except FileNotFoundError:
            continue
        except OSError as error:
            failed = error
    if failed is not None:
        raise failed
    return folder


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
