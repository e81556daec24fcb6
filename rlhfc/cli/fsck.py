"""``rlhfc fsck``: look at every file of a store and, with ``--repair``, put right what is wrong."""

from __future__ import annotations

import argparse
import json
import sys
import time
from pathlib import Path

from rlhfc.errors import Diagnostic, UserError
from rlhfc.store.layout import Layout, check_version
from rlhfc.store.leases import LostLockError
from rlhfc.upkeep.fsck import Report, fsck, looks_like_store
from rlhfc.upkeep.text import report_document, report_lines

DAMAGED = 1
TELL_SECONDS = 5.0


def run(arguments: argparse.Namespace) -> int:
    """Print what is found. The status is 0, or 1 when damage is found or left.

    Raises:
        UserError: there is no store, or one of another version.
    """
    root: Path = arguments.store.absolute()
    _refuse_others(root)
    report = _examine(root, arguments)
    if arguments.json:
        print(json.dumps(report_document(report, root, arguments), indent=2, ensure_ascii=False))
    else:
        print("\n".join(report_lines(report, str(arguments.store), repair=arguments.repair)))
    return DAMAGED if report.damage else 0


def _examine(root: Path, arguments: argparse.Namespace) -> Report:
    try:
        return fsck(root, quick=arguments.quick, repair=arguments.repair, tell=_Progress())
    except LostLockError as lost:
        hint = "run the same command again: what is left is repaired then"
        raise UserError(Diagnostic(str(lost), hint=hint)) from lost


def _refuse_others(root: Path) -> None:
    """Refuse what is no store; one whose ``VERSION`` is damaged is one all the same.

    Raises:
        UserError: as it says.
    """
    try:
        there = check_version(root)
    except UserError:
        text = Layout(root).version.read_bytes() if Layout(root).version.is_file() else b""
        if looks_like_store(root) and not _is_other_version(text):
            return
        raise
    if not there:
        raise UserError(Diagnostic(f"there is no store `{root}`", hint="name one with `--store`"))


def _is_other_version(text: bytes) -> bool:
    name, _, number = text.strip().partition(b" ")
    return name == b"rlhfc-store" and number.isdigit()


class _Progress:
    """Tells on stderr how far a long examination is."""

    def __init__(self) -> None:
        self._told = time.monotonic()

    def __call__(self, files: int, size: int) -> None:
        now = time.monotonic()
        if now - self._told >= TELL_SECONDS:
            self._told = now
            print(f"fsck: {files:,} files, {size / 1e9:.1f} GB read", file=sys.stderr)
