"""What an unquoted scalar means."""

from __future__ import annotations

import math

import pytest
from hypothesis import given
from hypothesis import strategies as st

from rlhfc.spec.scalars import plain_scalar

MEANINGS = {
    "true": True,
    "FALSE": False,
    "tRue": "tRue",
    **{text: text for text in ("on", "off", "yes", "No", "y", "N", "ON")},
    "": None,
    "~": None,
    "null": None,
    "none": "none",
    "12": 12,
    "-3": -3,
    "+7": 7,
    "0": 0,
    "0o14": 12,
    "0x1f": 31,
    "0b11": "0b11",
    "012": "012",
    "00": "00",
    "-01": "-01",
    "1_000": "1_000",
    "12:30:00": "12:30:00",
    "2026-11-22": "2026-11-22",
    "1e-5": 1e-5,
    "1E5": 1e5,
    "9.65e-6": 9.65e-6,
    "-0.5": -0.5,
    ".5": 0.5,
    "6.": 6.0,
    "05.5": "05.5",
    ".": ".",
    "e5": "e5",
    ".inf": ".inf",
    "-.INF": "-.INF",
    ".nan": ".nan",
    "1e999": "1e999",
    "0x": "0x",
    "9" * 5000: "9" * 5000,
    "١٢": "١٢",
    "1\n": "1\n",
}


@pytest.mark.parametrize("text", MEANINGS, ids=lambda text: repr(text[:12]))
def test_scalar_means_what_the_table_says(text):
    """Each spelling has the one meaning in the module's table, type included."""
    expected = MEANINGS[text]
    found = plain_scalar(text)
    assert (expected, type(expected)) == (found, type(found))


@given(st.floats(allow_nan=False, allow_infinity=False))
def test_every_finite_number_is_read_back(number):
    """What Python writes for a finite float is read as that float."""
    assert number == plain_scalar(repr(number))


@given(st.text())
def test_text_never_becomes_infinite_or_changes(text):
    """Any text is itself or a finite value, and never an exception."""
    found = plain_scalar(text)
    assert found == text if isinstance(found, str) else found is None or math.isfinite(found)
