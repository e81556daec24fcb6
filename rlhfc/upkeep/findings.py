"""What can be wrong with a store: a closed set, with what each costs and what a repair does."""

from __future__ import annotations

from dataclasses import dataclass
from enum import StrEnum


class Grade(StrEnum):
    """How bad a finding is.

    ``damage`` counts for the exit status: something is lost until it is made again. ``untidy`` costs
    nothing and a repair clears it away; a ``note`` is information that no repair changes.
    """

    DAMAGE = "damage"
    UNTIDY = "untidy"
    NOTE = "note"


class Kind(StrEnum):
    """What is wrong."""

    VERSION_DAMAGED = "version_damaged"
    UNREADABLE = "unreadable"
    BLOB_DAMAGED = "blob_damaged"
    BLOB_WRITABLE = "blob_writable"
    TREE_DAMAGED = "tree_damaged"
    RECORD_DAMAGED = "record_damaged"
    RECORD_INCOMPLETE = "record_incomplete"
    METRICS_LOST = "metrics_lost"
    DOCUMENT_DAMAGED = "document_damaged"
    DOCUMENT_MISSING = "document_missing"
    VIEW_DIFFERS = "view_differs"
    WORK_DAMAGED = "work_damaged"
    CHECKPOINT_DAMAGED = "checkpoint_damaged"
    CHECKPOINT_UNFINISHED = "checkpoint_unfinished"
    TAG_DAMAGED = "tag_damaged"
    QUOTA_DAMAGED = "quota_damaged"
    CACHE_DAMAGED = "cache_damaged"
    LEDGER_LINE = "ledger_line"
    LEDGER_SILENT = "ledger_silent"
    RESULT_GONE = "result_gone"
    LEFTOVER = "leftover"
    STRANGER = "stranger"
    UNREFERENCED = "unreferenced"


@dataclass(frozen=True)
class Meaning:
    """What a kind of finding stands for.

    Attributes:
        lost: what it costs.
        repair: what ``--repair`` does.
    """

    grade: Grade
    lost: str
    repair: str


ASIDE = "moved to quarantine"
MEANINGS = {
    Kind.VERSION_DAMAGED: Meaning(Grade.DAMAGE, "no command takes the folder for a store", "written again"),
    Kind.UNREADABLE: Meaning(Grade.DAMAGE, "what it held, as long as it cannot be read", ASIDE),
    Kind.BLOB_DAMAGED: Meaning(Grade.DAMAGE, "every result that has this file", ASIDE),
    Kind.BLOB_WRITABLE: Meaning(Grade.UNTIDY, "nothing", "made read-only"),
    Kind.TREE_DAMAGED: Meaning(Grade.DAMAGE, "every result that has this folder", ASIDE),
    Kind.RECORD_DAMAGED: Meaning(Grade.DAMAGE, "the result: its stage runs again", ASIDE),
    Kind.RECORD_INCOMPLETE: Meaning(
        Grade.DAMAGE, "the result: its stage runs again", f"forgotten, its record {ASIDE}"
    ),
    Kind.METRICS_LOST: Meaning(
        Grade.DAMAGE, "the curves of the result; the result stands", "recorded as without metrics"
    ),
    Kind.DOCUMENT_DAMAGED: Meaning(Grade.DAMAGE, "what its key was made from; the result stands", ASIDE),
    Kind.DOCUMENT_MISSING: Meaning(
        Grade.NOTE, "`explain` and `diff` cannot tell what the key was made from", "nothing"
    ),
    Kind.VIEW_DIFFERS: Meaning(
        Grade.UNTIDY, "nothing: a view is mended before it is read", "mended, what differed " + ASIDE
    ),
    Kind.WORK_DAMAGED: Meaning(Grade.DAMAGE, "what is told of an attempt", ASIDE),
    Kind.CHECKPOINT_DAMAGED: Meaning(Grade.DAMAGE, "the steps since the checkpoint before it", ASIDE),
    Kind.CHECKPOINT_UNFINISHED: Meaning(Grade.NOTE, "nothing: it counts for nothing", "nothing"),
    Kind.TAG_DAMAGED: Meaning(
        Grade.DAMAGE, "which result has the name; until it goes, `gc` removes nothing", ASIDE
    ),
    Kind.QUOTA_DAMAGED: Meaning(Grade.DAMAGE, "the limit: set it again with `rlhfc gc --quota`", ASIDE),
    Kind.CACHE_DAMAGED: Meaning(Grade.UNTIDY, "nothing: it is made again", ASIDE),
    Kind.LEDGER_LINE: Meaning(
        Grade.NOTE, "what the line told, in histories and reasons", "nothing: the ledger only grows"
    ),
    Kind.LEDGER_SILENT: Meaning(Grade.NOTE, "when and why these results were made", "nothing"),
    Kind.RESULT_GONE: Meaning(Grade.NOTE, "nothing that is needed: its stage would run again", "nothing"),
    Kind.LEFTOVER: Meaning(Grade.UNTIDY, "nothing: its writer died", ASIDE),
    Kind.STRANGER: Meaning(Grade.UNTIDY, "nothing: rlhfc did not put it there", ASIDE),
    Kind.UNREFERENCED: Meaning(Grade.NOTE, "nothing but space", "nothing"),
}


@dataclass(frozen=True)
class Finding:
    """One thing that is wrong.

    Attributes:
        place: path in the store.
        why: how it shows.
    """

    kind: Kind
    place: str
    why: str

    @property
    def meaning(self) -> Meaning:
        """What it stands for."""
        return MEANINGS[self.kind]
