"""What the store writes down, and how a record that is damaged is told from one that is not."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from typing import Any

from rlhfc.store.digest import DIGEST, TreeEntry, tagged_digest, tree_digest, tree_rows

ACTION_FORMAT = 1
ACTION_TAG = b"rlhfc-result\0v1\0"
DOCUMENT_FORMAT = 2
DOCUMENT_TAG = b"rlhfc-keydoc\0v2\0"


class DamagedRecordError(Exception):
    """A record that does not say what was written; the text says how it shows."""


@dataclass(frozen=True)
class ActionResult:
    """What an action yielded.

    Attributes:
        key: action key.
        outputs: port to tree digest.
        metrics: blob digest of the metrics (JSON lines), or None when there were none.
        summary: the stage's own main figures.
        seconds: wall time of all its attempts together.
        attempts: launches it took.
        finished: UTC time, ISO 8601.
        size: bytes of all outputs.
        adjusted: leaves that it was made with otherwise than the spec said, with their values: a smaller
            micro-batch after a lack of memory.
    """

    key: str
    outputs: Mapping[str, str]
    metrics: str | None
    summary: Mapping[str, float | int | str]
    seconds: float
    attempts: int
    finished: str
    size: int
    adjusted: Mapping[str, int] = field(default_factory=dict)


@dataclass(frozen=True)
class Acceptance:
    """Why a result stands under a key that it was not made under.

    Attributes:
        before: key that it was made under, or accepted under before.
        who: who says that it stands.
        why: in their words.
        time: UTC time, ISO 8601.
    """

    before: str
    who: str
    why: str
    time: str


def acceptance_of(kept: Mapping[str, Any] | None) -> Acceptance | None:
    """The acceptance that was kept beside a key, if there was one."""
    found = (kept or {}).get("accepted")
    try:
        return Acceptance(**found) if isinstance(found, Mapping) else None
    except TypeError:  # written by another version
        return None


def encode_result(result: ActionResult) -> bytes:
    """Make the action record: the result and a digest of it."""
    body = {"format": ACTION_FORMAT, **asdict(result)}
    return _lines({"result": body, "check": tagged_digest(ACTION_TAG, body)})


def decode_result(data: bytes, key: str) -> ActionResult:
    """Read an action record back.

    Raises:
        DamagedRecordError: it is not what was written, or belongs to another key.
    """
    document = _parse(data)
    body = document.get("result")
    if not isinstance(body, dict) or document.get("check") != tagged_digest(ACTION_TAG, body):
        raise DamagedRecordError("its check digest does not agree")
    if body.pop("format", None) != ACTION_FORMAT:
        raise DamagedRecordError("it has another format")
    try:
        result = ActionResult(**body)
    except TypeError as error:  # whole, but written by another version
        raise DamagedRecordError(f"its fields are others: {error}") from error
    if result.key != key:
        raise DamagedRecordError(f"it belongs to `{result.key}`")
    return result


def encode_tree(entries: list[TreeEntry]) -> bytes:
    """Tree record: rows of path, size, digest."""
    return _lines(tree_rows(entries))


def decode_tree(data: bytes, digest: str) -> list[TreeEntry]:
    """Read a tree record back.

    Raises:
        DamagedRecordError: it does not hash to ``digest``.
    """
    rows = _parse(data, list)
    if not all(_is_row(row) for row in rows):
        raise DamagedRecordError("it is not a list of path, size and digest")
    entries = [TreeEntry(*row) for row in rows]
    if tree_digest(entries) != digest:
        raise DamagedRecordError("its digest does not agree")
    return entries


def encode_document(document: Mapping[str, Any]) -> bytes:
    """Key document with a digest of all that is kept with it, indented for people."""
    check = {"format": DOCUMENT_FORMAT, "check": tagged_digest(DOCUMENT_TAG, document)}
    return _lines({**document, **check}, indent=1)


def decode_document(data: bytes) -> dict[str, Any]:
    """Read a key document back; those that were written before there was a check have none.

    Raises:
        DamagedRecordError: it is not what was written.
    """
    document: dict[str, Any] = _parse(data)
    if "format" not in document and "check" not in document:
        return document
    check, form = document.pop("check", None), document.pop("format", None)
    if form != DOCUMENT_FORMAT:
        raise DamagedRecordError("it has another format")
    if check != tagged_digest(DOCUMENT_TAG, document):
        raise DamagedRecordError("its check digest does not agree")
    return document


def stays_inside(path: str) -> bool:
    """Whether a path of a record, joined to a folder, names something below that folder."""
    return (
        not path.startswith("/")
        and "\0" not in path
        and all(part not in ("", ".", "..") for part in path.split("/"))
    )


def _is_row(row: Any) -> bool:
    return (
        isinstance(row, list)
        and len(row) == 3
        and isinstance(row[0], str)
        and stays_inside(row[0])
        and isinstance(row[1], int)
        and isinstance(row[2], str)
        and DIGEST.match(row[2]) is not None
    )


def _parse(data: bytes, expected: type = dict) -> Any:
    try:
        value = json.loads(data)
    except ValueError as error:  # UnicodeDecodeError is one
        raise DamagedRecordError("it is not JSON") from error
    if not isinstance(value, expected):
        raise DamagedRecordError(f"it is not a JSON {'object' if expected is dict else 'array'}")
    return value


def _lines(value: Any, indent: int | None = None) -> bytes:
    return (json.dumps(value, indent=indent, ensure_ascii=False, sort_keys=True) + "\n").encode()
