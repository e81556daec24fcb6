"""What the text after an option must be, and what is said where it is not. Standard library only."""

from __future__ import annotations

import re

from rlhfc.errors import Diagnostic, UserError


def key(text: str) -> str:
    """An action key in full.

    Raises:
        UserError: it is none.
    """
    if not re.fullmatch(r"b3:[0-9a-f]{64}", text):
        raise UserError(Diagnostic(f"`--key {text}` is no key", hint="give `b3:` and 64 hex digits"))
    return text


def whole(option: str, text: str) -> int:
    """A number from 0 on.

    Raises:
        UserError: it is none.
    """
    if not text.isdecimal():
        raise UserError(Diagnostic(f"`{option} {text}` is no number", hint="give 0 or more"))
    return int(text)


def amount(option: str, text: str) -> float:
    """A finite amount from 0 on.

    Raises:
        UserError: it is none.
    """
    try:
        number = float(text)
    except ValueError:
        number = -1.0
    if not 0 <= number < float("inf"):
        raise UserError(Diagnostic(f"`{option} {text}` is no amount", hint="give 0 or more"))
    return number


def count(text: str) -> int:
    """How many, from 1 on.

    Raises:
        UserError: it is none.
    """
    if not text.isdecimal() or int(text) == 0:
        raise UserError(Diagnostic(f"`-n {text}` is no count", hint="give 1 or more"))
    return int(text)
