"""Keys and impacts against the records in the repository: none moves by accident."""

from __future__ import annotations

import json
import math
from pathlib import Path
from typing import Any

import pytest
from golden import FOLDER, IMPACTS, documents, impact_lines, keys_of

from rlhfc.store.digest import canonical_json

AGAIN = "`python tests/compile/golden.py` writes the records again; the changelog must say that keys move"


@pytest.mark.parametrize("file", sorted(FOLDER.glob("*.json")), ids=lambda file: file.stem)
def test_a_golden_key(file: Path) -> None:
    """A document on record has the canonical bytes and the key on record."""
    vector = json.loads(file.read_text(encoding="utf-8"))
    expected = {name: vector[name] for name in ("canonical", "key")}
    assert expected == keys_of(vector["document"])


def test_the_golden_pipeline() -> None:
    """All kinds have the key documents on record, on a machine made of values."""
    recorded = {
        file.stem: json.loads(file.read_text(encoding="utf-8"))["document"]
        for file in FOLDER.glob("all_kinds-*.json")
    }
    assert recorded == documents(), AGAIN


def test_the_impact_of_every_leaf() -> None:
    """A leaf that appears, goes or changes its impact is a decision that somebody wrote down."""
    assert IMPACTS.read_text(encoding="utf-8").splitlines() == list(impact_lines()), AGAIN


@pytest.mark.parametrize(
    ("one", "other"),
    [
        (1, 1.0),
        (1, True),
        (0, False),
        (0.0, -0.0),
        (None, "null"),
        (None, ""),
        ("é", "e\u0301"),
        (0.1, math.nextafter(0.1, 1)),
        ([], {}),
        ([1, 2], [2, 1]),
        ([[1], 2], [[1, 2]]),
        ({"a": None}, {}),
        ({"ab": "c"}, {"a": "bc"}),
    ],
)
def test_values_that_are_two(one: Any, other: Any) -> None:
    """What a stage could tell apart has two encodings."""
    assert canonical_json(one) != canonical_json(other)


def test_a_canonical_encoding() -> None:
    """Names in the order of their code points, no white space, the shortest float, UTF-8."""
    value = {"b": [1e-05, 0.1, 1e16, 100000.0, -0.0], "a": "é\n", "B": None, "ﬀ": True, "😀": {}}
    expected = '{"B":null,"a":"é\\n","b":[1e-05,0.1,1e+16,100000.0,-0.0],"ﬀ":true,"😀":{}}'
    assert expected.encode() == canonical_json(value)


@pytest.mark.parametrize("value", [math.nan, math.inf, -math.inf, "\ud800", {"\udfff": 1}])
def test_values_without_an_encoding(value: Any) -> None:
    """What no JSON text means is refused, at any depth."""
    with pytest.raises(ValueError, match=r"JSON|surrogates"):
        canonical_json({"a": [value]})


@pytest.mark.parametrize("name", [1, None, True, 1.5])
def test_names_that_are_no_text(name: Any) -> None:
    """`{1: …}` and `{"1": …}` would be written the same, so the first is refused."""
    with pytest.raises(TypeError, match="is no text"):
        canonical_json([{name: 1}])
