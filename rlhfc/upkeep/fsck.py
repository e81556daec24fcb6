"""``rlhfc fsck`` as a function: look at every file of a store and, if asked, put right what is wrong.

Sections go from blobs to what refers to them, and each is repaired before the next is looked at, so
that one repair is enough. A finding counts when it is there at a second look: runs may be at work. That
look and the repair hold off all who make references; the first, which may take hours, does not.
"""

from __future__ import annotations

import time
from collections.abc import Iterable, Iterator
from contextlib import nullcontext
from dataclasses import dataclass, field
from pathlib import Path

from rlhfc.store.files import listed, make_folder
from rlhfc.store.holder import Holder
from rlhfc.store.layout import NAME, STAT_CACHE, VERSION, Layout
from rlhfc.store.leases import Hold
from rlhfc.store.store import Store
from rlhfc.upkeep.findings import Finding, Grade, Kind
from rlhfc.upkeep.mend import Mender, NotMendedError
from rlhfc.upkeep.results import (
    check_blob,
    check_document,
    check_needed,
    check_record,
    check_tree,
    check_view,
)
from rlhfc.upkeep.running import (
    check_ledger,
    check_plan,
    check_quota,
    check_stat_cache,
    check_tag,
    check_told,
    check_work,
)
from rlhfc.upkeep.scope import DRAFT, Check, Scope, Tell, blob_digest, fanned, strange

AGAIN_SECONDS = 0.2
STORE_FOLDERS = ("objects", "trees", "actions", "keydocs")


@dataclass(frozen=True)
class Fate:
    """A finding, and what has become of it.

    Attributes:
        repaired: whether it is right now.
        left: why a repair left it; None when none was asked for, or none is needed.
    """

    finding: Finding
    repaired: bool = False
    left: str | None = None


@dataclass
class Report:
    """What an examination came to.

    Attributes:
        files: that were looked at.
        bytes: that were read.
        results: records that can be read.
        quarantine: where a repair has put things.
    """

    fates: list[Fate] = field(default_factory=list)
    files: int = 0
    bytes: int = 0
    results: int = 0
    quarantine: Path | None = None

    @property
    def damage(self) -> list[Fate]:
        """What is damaged still."""
        return [
            each for each in self.fates if each.finding.meaning.grade is Grade.DAMAGE and not each.repaired
        ]


def looks_like_store(root: Path) -> bool:
    """Whether a folder is a store, or was one before its ``VERSION`` was damaged."""
    return sum((root / name).is_dir() for name in STORE_FOLDERS) >= 2


def fsck(root: Path, *, quick: bool, repair: bool, tell: Tell) -> Report:
    """Look at every file of a store.

    Args:
        root: its folder.
        quick: believe seals; else every byte is read.
        repair: put right what is wrong.
        tell: takes the number of files looked at and of bytes read, often.

    Raises:
        LostLockError: this process was frozen in the midst of a repair; what is left is found next time.
    """
    store = Store(root)
    scope = Scope(store.layout, quick=quick, repair=repair, tell=tell)
    mender = Mender(store) if repair else None
    if repair:
        make_folder(root / "locks")
    report = Report()
    for check, paths in _sections(scope.layout):
        found = [(path, each) for path in paths for each in _look(scope, check, path)]
        if found:
            time.sleep(AGAIN_SECONDS)
            with store.locks.alone(Holder.me()) if repair else nullcontext(Hold()) as hold:
                with scope.uncounted():
                    sure = {path: set(_look(scope, check, path)) for path, _ in found}
                found = [(path, each) for path, each in found if each in sure[path]]
                report.fates += _settled(found, mender, hold, scope)
    report.fates += [Fate(each) for each in check_needed(scope)]
    report.files, report.bytes, report.results = scope.files, scope.total, scope.results
    report.quarantine = mender.quarantine.folder if mender is not None and mender.quarantine.used else None
    return report


def _settled(
    found: Iterable[tuple[Path, Finding]], mender: Mender | None, hold: Hold, scope: Scope
) -> Iterator[Fate]:
    for path, finding in found:
        if mender is None or finding.meaning.grade is Grade.NOTE:
            yield Fate(finding)
            continue
        hold.check()
        try:
            mender.mend(path, finding)
        except NotMendedError as error:
            yield Fate(finding, left=str(error))
        except OSError as error:
            yield Fate(finding, left=error.strerror or str(error))
        else:
            # A run may put the blob there again, whole, before the records are looked at.
            scope.bad.discard(blob_digest(path) or "")
            yield Fate(finding, repaired=True)


def _look(scope: Scope, check: Check, path: Path) -> list[Finding]:
    """What a check finds; what cannot be read is a finding, what has vanished meanwhile is none."""
    try:
        return list(dict.fromkeys(check(scope, path)))
    except FileNotFoundError:
        return []
    except OSError as error:
        return [scope.finding(Kind.UNREADABLE, path, error.strerror or str(error))]


def _sections(layout: Layout) -> Iterator[tuple[Check, Iterable[Path]]]:
    root = layout.root
    yield check_version_file, [layout.version]
    yield check_blob, fanned(root / "objects")
    yield check_tree, fanned(root / "trees")
    yield check_record, fanned(root / "actions")
    yield check_document, fanned(root / "keydocs")
    yield check_view, listed(root / "views")
    yield check_work, listed(root / "work")
    yield check_ledger, [layout.ledger]
    yield check_told, [layout.ledger]
    yield check_tag, listed(layout.tags)
    yield check_quota, [root / "quota.json"]
    yield check_stat_cache, [root / STAT_CACHE]
    yield check_plan, listed(root / "plans")
    yield strange, listed(layout.scratch)
    yield strange, (path for path in listed(root) if path.name.startswith(".") and DRAFT.match(path.name))


def check_version_file(scope: Scope, path: Path) -> Iterator[Finding]:
    """The file that says which format the store has; another version has been refused before."""
    expected = f"{NAME} {VERSION}"
    try:
        text = path.read_text(encoding="utf-8", errors="replace").strip()
    except FileNotFoundError:
        text = ""
    if text != expected:
        yield scope.finding(Kind.VERSION_DAMAGED, path, f"it does not say `{expected}`")
