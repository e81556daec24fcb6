"""Checks of what runs leave beside results: work folders, the ledger, caches, drafts."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path

from rlhfc.compile.digests import decode_cache
from rlhfc.plan import memo
from rlhfc.run.attempt import Attempt, attempts
from rlhfc.store import ledger_index
from rlhfc.store.checkpoints import COMPLETE, FORMAT, checkpoint_flaw, places
from rlhfc.store.digest import file_digest
from rlhfc.store.files import listed
from rlhfc.store.guarded import unguarded
from rlhfc.store.layout import hex_of
from rlhfc.store.ledger_lines import DONE_EVENTS, START, read_on
from rlhfc.store.tags import read_tag
from rlhfc.upkeep.findings import Finding, Kind
from rlhfc.upkeep.quota import read_quota
from rlhfc.upkeep.scope import Scope, fanned, record_digest, strange

LAUNCHED = ("argv.json", "config.json", "env.json", "machine.json")


def check_work(scope: Scope, path: Path) -> Iterator[Finding]:
    """The work folder of an action: whose it is, its attempts, its checkpoints."""
    if not path.is_dir():
        yield from strange(scope, path)
        return
    digits = path.name.rpartition("-")[2]
    owner = path / "key.json"
    if owner.exists():
        key = _owner(scope.read(owner), path.name)
        told = {hex_of(status.key) for status in (each.status() for each in attempts(path)) if status}
        if key is None or (told and key not in told):
            yield scope.finding(Kind.WORK_DAMAGED, owner, "it does not name the action of this folder")
        else:
            digits = key
    for attempt in attempts(path):
        yield from _check_attempt(scope, attempt, digits)
    for place in places(path):
        for checkpoint in listed(place / "checkpoints"):
            yield from _check_checkpoint(scope, checkpoint, digits)


def _owner(data: bytes, folder: str) -> str | None:
    """Digits of the key that a work folder says it is for; None when they are not those of its name."""
    try:
        found = unguarded(data)
        digits = hex_of(found["key"])
        fits = f"{found['stage']}-{digits[:12]}" == folder and bool(found["pipeline"])
    except (ValueError, KeyError, TypeError, AttributeError):
        return None
    return digits if fits else None


def _check_attempt(scope: Scope, attempt: Attempt, digits: str) -> Iterator[Finding]:
    """What we wrote of an attempt, each file in one piece; its log and manifest are the stage's own."""
    file = attempt.folder / "status.json"
    if file.exists():
        scope.read(file)  # what cannot be read is another finding than what does not fit
        status = attempt.status()
        if status is None or not hex_of(status.key).startswith(digits):
            yield scope.finding(Kind.WORK_DAMAGED, file, "it is no status of an attempt of this action")
    for name in LAUNCHED:
        file = attempt.folder / name
        if file.exists() and not _fits(scope.read(file), digits if name == "config.json" else None):
            yield scope.finding(Kind.WORK_DAMAGED, file, "it is not what was launched here")


def _fits(data: bytes, digits: str | None) -> bool:
    try:
        found = json.loads(data)
        return digits is None or hex_of(found["action_key"]).startswith(digits)
    except (ValueError, KeyError, TypeError, AttributeError):
        return False


def _check_checkpoint(scope: Scope, folder: Path, digits: str) -> Iterator[Finding]:
    """A checkpoint: its manifest, which is written last, lists every file with its size or digest."""
    complete = folder / COMPLETE
    if not folder.is_dir() or not folder.name.startswith("step-"):
        return  # a stage's own: never resumed from
    if not complete.exists():
        yield scope.finding(Kind.CHECKPOINT_UNFINISHED, folder, f"it has no `{COMPLETE}`")
        return
    if _is_older(scope.read(complete)):
        return  # an earlier rlhfc's: the next launch says so and puts it aside
    flaw = checkpoint_flaw(folder, f"b3:{digits}", lambda file, digest: _holds(scope, file, digest))
    if flaw is not None:
        yield scope.finding(Kind.CHECKPOINT_DAMAGED, folder, flaw)


def _is_older(data: bytes) -> bool:
    try:
        return bool(unguarded(data).get("format", 1) < FORMAT)
    except (ValueError, TypeError, AttributeError):
        return False


def _holds(scope: Scope, path: Path, digest: str) -> bool:
    """Whether a file of a checkpoint has these bytes; who is quick believes its size."""
    size = 0 if scope.quick else path.stat().st_size
    scope.count(size)
    return scope.quick or file_digest(path) == digest


def check_ledger(scope: Scope, path: Path) -> Iterator[Finding]:
    """The ledger: every line with its checksum; and every result that it should tell of."""
    found = read_on(path, START)
    if found is None:
        return
    scope.count(found.mark.offset)
    for line in found.damaged:
        yield Finding(Kind.LEDGER_LINE, f"{scope.place(path)}:{line}", "its checksum does not agree")
    if found.mark.offset < path.stat().st_size:
        number = found.mark.lines + 1
        yield Finding(Kind.LEDGER_LINE, f"{scope.place(path)}:{number}", "it does not end")
    if not ledger_index.is_true(path):
        place = ledger_index.index_place(path)
        yield Finding(Kind.CACHE_DAMAGED, str(place), "it does not say what the ledger says")


def check_told(scope: Scope, path: Path) -> Iterator[Finding]:
    """Results of which the ledger, or what is left of it, says nothing; and those of which only it knows."""
    found = read_on(path, START) if path.exists() else None
    told: dict[str, bool] = {}
    for entry in found.entries if found is not None else ():
        if isinstance(entry.get("key"), str):
            told[entry["key"]] = entry["event"] in DONE_EVENTS or told.get(entry["key"], False)
            if entry["event"] == "forgotten":
                told[entry["key"]] = False
        if entry["event"] == "collected":
            told |= dict.fromkeys(entry["keys"], False)
    records = fanned(scope.layout.root / "actions")
    there = {digest for path in records if (digest := record_digest(path))}
    if silent := len(there - told.keys()):
        yield Finding(Kind.LEDGER_SILENT, scope.place(path), f"{_results(silent)} that it does not tell of")
    if gone := len({key for key, done in told.items() if done} - there):
        yield Finding(Kind.RESULT_GONE, scope.place(path), f"{_results(gone)} that it tells of and are gone")


def _results(count: int) -> str:
    return f"{count} result{'s' if count > 1 else ''}"


def check_tag(scope: Scope, path: Path) -> Iterator[Finding]:
    """A name that people gave to a result."""
    if path.suffix != ".json" or path.name.startswith("."):
        yield from strange(scope, path)
        return
    scope.read(path)
    if read_tag(path) is None:
        yield scope.finding(Kind.TAG_DAMAGED, path, "it does not say which result it names")


def check_quota(scope: Scope, path: Path) -> Iterator[Finding]:
    """How much the store may hold."""
    scope.read(path)
    if read_quota(scope.layout) is None:
        yield scope.finding(Kind.QUOTA_DAMAGED, path, "it does not say how many bytes")


def check_stat_cache(scope: Scope, path: Path) -> Iterator[Finding]:
    """Digests of unchanged sources."""
    try:
        decode_cache(scope.read(path))
    except ValueError as damage:
        yield scope.finding(Kind.CACHE_DAMAGED, path, str(damage))


def check_plan(scope: Scope, path: Path) -> Iterator[Finding]:
    """A plan that is known already."""
    if path.suffix != ".json":
        yield from strange(scope, path)
        return
    try:
        memo.decode(scope.read(path))
    except ValueError as damage:
        yield scope.finding(Kind.CACHE_DAMAGED, path, str(damage))
