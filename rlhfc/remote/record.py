"""The record of a shared result: what the action yielded, where the rest lies, and who vouches for it.

It is the only thing there that its own bytes do not prove: that this key yields these outputs is
believed of whoever may write to the place, or of whoever signed. So it is read strictly, because
it may come from a stranger: every field has its type, text that is shown is printable, and
whatever names a file is a digest.
"""

from __future__ import annotations

from typing import Annotated, Any, Literal

from pydantic import AfterValidator, BaseModel, ConfigDict, Field, ValidationError

from rlhfc.compile.keys import ACTION_TAG
from rlhfc.store.digest import TreeEntry, bytes_digest, canonical_json, tagged_digest
from rlhfc.store.records import ActionResult, DamagedRecordError, decode_document, decode_tree

TAG = b"rlhfc-shared\0v1\0"
RECORD_LIMIT = 1024 * 1024
TREE_LIMIT = 64 * 1024 * 1024
DOCUMENT_LIMIT = 64 * 1024 * 1024
LARGEST = 2**62
NAME_LIMIT = 255  # bytes of one part of a path, on all common file systems


class RefusedError(Exception):
    """What was found there does not count; the text says what, and why."""


def _printable(text: str) -> str:
    if not text.isprintable():
        raise ValueError("holds characters that cannot be shown")
    return text


Digest = Annotated[str, Field(pattern=r"^b3:[0-9a-f]{64}\z")]
Text = Annotated[str, Field(max_length=10_000), AfterValidator(_printable)]
Count = Annotated[int, Field(ge=0, le=LARGEST)]
Number = Annotated[float, Field(allow_inf_nan=False)]


class _Strict(BaseModel):
    model_config = ConfigDict(strict=True, extra="forbid", frozen=True)


class Sized(_Strict):
    """A file that the record names, and how many bytes it has."""

    digest: Digest
    size: Count


class Yielded(_Strict):
    """What :class:`rlhfc.store.records.ActionResult` holds, field by field."""

    key: Digest
    outputs: dict[Text, Digest]
    metrics: Digest | None
    summary: dict[Text, Annotated[int, Field(ge=-LARGEST, le=LARGEST)] | Number | Text]
    seconds: Annotated[Number, Field(ge=0)]
    attempts: Count
    finished: Text
    size: Count
    adjusted: dict[Text, Count] = Field(default_factory=dict)


class Signature(_Strict):
    """Who signed, as in a line of ``authorized_keys`` without its comment, and the signature in base 64."""

    signer: Text
    value: Text


class Shared(_Strict):
    """A record.

    Attributes:
        document: the key document, by the digest of its bytes.
        metrics: the metrics, where the result has any.
        signature: over everything else, when it is signed.
    """

    format: Literal[1] = 1
    result: Yielded
    document: Sized
    metrics: Sized | None
    signature: Signature | None = None

    @property
    def key(self) -> str:
        """Action key."""
        return self.result.key

    @property
    def yielded(self) -> ActionResult:
        """The result as the store has it."""
        return ActionResult(**self.result.model_dump())

    def to_sign(self) -> bytes:
        """What a signature is made over: all of the record but the signature itself."""
        return TAG + canonical_json(self.model_dump(exclude={"signature"}))

    def encoded(self) -> bytes:
        """The bytes that are put there."""
        return canonical_json(self.model_dump()) + b"\n"


def shared(result: ActionResult, document: bytes, metrics: int | None) -> Shared:
    """Make the record of a result.

    Args:
        result: as the store has it.
        document: bytes of its key document, as they are put there.
        metrics: bytes of its metrics, or None without.

    Raises:
        RefusedError: a reader would refuse the record.
    """
    maps = {name: dict(getattr(result, name)) for name in ("outputs", "summary", "adjusted")}
    fields = {**vars(result), **maps}
    try:
        return Shared(
            result=Yielded(**fields),
            document=Sized(digest=bytes_digest(document), size=len(document)),
            metrics=Sized(digest=result.metrics, size=metrics or 0) if result.metrics is not None else None,
        )
    except ValidationError as error:
        raise RefusedError(_first(error)) from error


def decode_shared(data: bytes, key: str) -> Shared:
    """Read a record.

    Raises:
        RefusedError: it is none, or that of another key.
    """
    if len(data) > RECORD_LIMIT:
        raise RefusedError(f"it has more than {RECORD_LIMIT} bytes")
    try:
        found = Shared.model_validate_json(data)
    except ValidationError as error:
        raise RefusedError(_first(error)) from error
    if found.key != key:
        raise RefusedError(f"it belongs to `{found.key}`")
    if (found.metrics.digest if found.metrics else None) != found.result.metrics:
        raise RefusedError("it names two different metrics")
    return found


def decode_shared_tree(data: bytes, digest: str) -> list[TreeEntry]:
    """Read a tree, and check that a folder can be made of it.

    Raises:
        RefusedError: it is not the one of that digest, or its paths or sizes are none.
    """
    if len(data) > TREE_LIMIT:
        raise RefusedError(f"it has more than {TREE_LIMIT} bytes")
    try:
        entries = decode_tree(data, digest)
    except DamagedRecordError as error:
        raise RefusedError(str(error)) from error
    except (ValueError, RecursionError) as error:  # text that is no Unicode; brackets without end
        raise RefusedError("it is not a list of path, size and digest") from error
    paths = {entry.path for entry in entries}
    for entry in entries:
        if type(entry.size) is not int or not 0 <= entry.size <= LARGEST:
            raise RefusedError(f"`{_name(entry.path)}` has an impossible size")
        parts = entry.path.split("/")
        if "\0" in entry.path or any(len(part.encode()) > NAME_LIMIT for part in parts):
            raise RefusedError(f"`{_name(entry.path)}` cannot be the name of a file")
        if any("/".join(parts[:depth]) in paths for depth in range(1, len(parts))):
            raise RefusedError(f"`{_name(entry.path)}` lies below another file")
    if len(paths) != len(entries):
        raise RefusedError("it names a file twice")
    return entries


class _Acceptance(_Strict):
    before: Digest
    who: Text
    why: Text
    time: Text


class _Kept(_Strict):
    document: dict[str, Any]
    recorded: dict[str, Any]
    origins: dict[str, Text] = Field(default_factory=dict)
    accepted: _Acceptance | None = None


def decode_shared_document(data: bytes, named: Sized, key: str) -> dict[str, Any]:
    """Read a key document: that of this record, and of this key.

    Raises:
        RefusedError: it is not.
    """
    if len(data) != named.size or bytes_digest(data) != named.digest:
        raise RefusedError("its digest does not agree")
    try:
        found = decode_document(data)
        _Kept.model_validate(found)
        fits = tagged_digest(ACTION_TAG, found["document"]) == key
    except ValidationError as error:
        raise RefusedError(_first(error)) from error
    except DamagedRecordError as error:
        raise RefusedError(str(error)) from error
    except (ValueError, RecursionError) as error:
        raise RefusedError("it is not JSON that can be hashed") from error
    if not fits:
        raise RefusedError(f"it is not what `{key}` is made of")
    return found


def _first(error: ValidationError) -> str:
    """The first thing that is wrong, without what was written there, which nobody has checked."""
    errors = error.errors(include_url=False, include_input=False, include_context=False)
    # Of a value that may be a number or text each is told; what our own check says is the telling one.
    found = next((each for each in errors if each["type"] == "value_error"), errors[0])
    place = ".".join(str(step) for step in found["loc"] if not isinstance(step, str) or step.isidentifier())
    return f"{place}: {found['msg']}" if place else found["msg"]


def _name(path: str) -> str:
    return "".join(char if char.isprintable() else "?" for char in path[:80])
