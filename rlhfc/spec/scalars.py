"""What an unquoted YAML scalar means.

The rules are those of YAML 1.2's core schema, narrowed where a spec could surprise:

| written | is |
|---|---|
| ``true`` ``false`` (also ``True``, ``TRUE``) | a boolean |
| ``on`` ``off`` ``yes`` ``no`` ``y`` ``n`` | text: only YAML 1.1 took them for booleans |
| ``null`` ``~`` and nothing at all | null |
| ``12`` ``-3`` ``0o14`` ``0x1f`` | whole numbers |
| ``012`` ``1_000`` ``12:30:00`` ``2026-11-22`` | text: octal, grouped, base 60, dates in YAML 1.1 |
| ``1.5`` ``1e-5`` ``.5`` ``6.`` | numbers |
| ``.inf`` ``.nan`` ``1e999`` | text: no setting means anything at infinity |

Quoted scalars and block scalars are always text.
"""

from __future__ import annotations

import math
import re

_WORDS: dict[str, bool | None] = {
    **dict.fromkeys(("true", "True", "TRUE"), True),
    **dict.fromkeys(("false", "False", "FALSE"), False),
    **dict.fromkeys(("", "~", "null", "Null", "NULL"), None),
}
_WHOLE = re.compile(r"[-+]?(0|[1-9][0-9]{0,39})")
_OCTAL = re.compile(r"0o([0-7]{1,40})")
_HEXADECIMAL = re.compile(r"0x([0-9a-fA-F]{1,40})")
_NUMBER = re.compile(r"[-+]?((0|[1-9][0-9]*)(\.[0-9]*)?|\.[0-9]+)([eE][-+]?[0-9]+)?")


def plain_scalar(text: str) -> str | int | float | bool | None:
    """The value of an unquoted scalar, by the table above."""
    if text in _WORDS:
        return _WORDS[text]
    if _WHOLE.fullmatch(text):
        return int(text)
    for pattern, base in ((_OCTAL, 8), (_HEXADECIMAL, 16)):
        if found := pattern.fullmatch(text):
            return int(found[1], base)
    if _NUMBER.fullmatch(text):
        number = float(text)
        return number if math.isfinite(number) else text
    return text
