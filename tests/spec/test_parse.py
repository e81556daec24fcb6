"""YAML text to values with places."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from rlhfc.errors import Diagnostic, UserError
from rlhfc.spec.parse import decode, parse_file, parse_text

FILE = Path("spec.yaml")


def parsed(text: str):
    """Plain value of a YAML text."""
    return parse_text(text, FILE).plain()


def refusal(text: str) -> str:
    """First message that a YAML text is refused with."""
    with pytest.raises(UserError) as caught:
        parse_text(text, FILE)
    return caught.value.diagnostics[0].message


def test_keys_are_text_as_written():
    """Keys that look like booleans, numbers or null stay text."""
    assert {"on": 1, "1": 2, "null": 3, "1e-5": 4, "a b": 5} == parsed(
        "on: 1\n1: 2\nnull: 3\n1e-5: 4\n'a b': 5\n"
    )


def test_quotes_and_blocks_make_text():
    """A quoted, block or `!!str` scalar is text whatever it looks like."""
    assert ["1", "true", "x\n", "a b", "12"] == parsed(
        "- \"1\"\n- 'true'\n- |\n  x\n- >-\n  a\n  b\n- !!str 12\n"
    )


def test_places_are_those_of_keys_and_values():
    """Every key and value has its line and column, counted in characters from 1."""
    root = parse_text("é: 1\nlist:\n  - {b: 'two words'}\n", FILE)
    inner = root.child("list").child(0).child("b")
    assert ("spec.yaml:3:6", 1) == (str(inner.key), inner.key.length)
    assert ("spec.yaml:3:9", 11) == (str(inner.mark), inner.mark.length)
    assert "spec.yaml:1:4" == str(root.child("é").mark)
    assert "spec.yaml:2:1" == str(root.child("list").place())


def test_merge_keys_fill_in_what_is_missing():
    """`<<` gives its entries; own keys win wherever they stand, then the earlier mapping."""
    text = """
a: &a {x: 1, y: 1}
b: &b {y: 2, z: 2}
one: {<<: *a, x: 0}
two: {z: 0, <<: [*a, *b]}
three: {"<<": 1}
"""
    found = parsed(text)
    assert {"x": 0, "y": 1} == found["one"]
    assert {"x": 1, "y": 1, "z": 0} == found["two"]
    assert {"<<": 1} == found["three"]


def test_merged_values_keep_the_place_of_their_anchor():
    """A value that was merged in is shown where it was written."""
    root = parse_text("a: &a {x: 1}\nb: {<<: *a}\n", FILE)
    assert "spec.yaml:1:11" == str(root.child("b").child("x").mark)


def test_two_merge_keys_are_refused():
    """A second `<<` in one mapping is told with the form that merges several."""
    assert "`<<` is given twice" == refusal("a: &a {x: 1}\nb:\n  <<: *a\n  <<: *a\n")


def test_aliased_value_has_the_key_that_names_it():
    """One value under two keys is found under each by its own key."""
    root = parse_text("a: &a {x: 1}\nb: *a\n", FILE)
    assert ["spec.yaml:1:1", "spec.yaml:2:1"] == [str(root.child(name).place()) for name in "ab"]


def test_anchor_may_be_reused_after_its_definition():
    """An anchor that is defined again stands for the later value from there on."""
    assert {"a": 1, "b": 1, "c": 2, "d": 2} == parsed("a: &x 1\nb: *x\nc: &x 2\nd: *x\n")


@pytest.mark.parametrize("broken", ["\r\n", "\r", "\n"], ids=["crlf", "cr", "lf"])
def test_line_breaks_of_every_system_count_alike(broken):
    """Places and values do not depend on the kind of line break."""
    root = parse_text(f"a: 1{broken}b: 2{broken}", FILE)
    assert ({"a": 1, "b": 2}, "spec.yaml:2:4", "b: 2") == (
        root.plain(), str(root.child("b").mark), root.child("b").mark.text
    )  # fmt: skip


def test_byte_order_mark_is_skipped(tmp_path):
    """A file that begins with a UTF-8 byte-order mark is read as if it did not."""
    file = tmp_path / "spec.yaml"
    file.write_bytes(b"\xef\xbb\xbfschema: 1\n")
    root = parse_file(file)
    assert ({"schema": 1}, 1) == (root.plain(), root.child("schema").key.column)


def test_bad_byte_is_located_in_characters():
    """The place of a byte that is not UTF-8 counts the characters before it."""
    with pytest.raises(UserError) as caught:
        decode("a: é\nb: ö".encode() + b"\xff", FILE)
    assert "spec.yaml:2:5" == str(caught.value.diagnostics[0].mark)


def test_missing_file_is_the_users_mistake(tmp_path):
    """A path that cannot be read is told with the system's reason."""
    with pytest.raises(UserError) as caught:
        parse_file(tmp_path / "none.yaml")
    assert (
        f"error: cannot read `{tmp_path / 'none.yaml'}`: No such file or directory" == caught.value.render()
    )


def test_aliases_within_the_limit_are_expanded():
    """Aliases that stand for many values are fine below the limit."""
    text = "a: &a [x, x, x, x]\n" + "".join(f"k{index}: *a\n" for index in range(1000))
    assert 1001 == len(parsed(text))


def test_depth_is_refused_before_python_runs_out():
    """A million opening brackets are a message, not a crash."""
    assert "more than 64 levels of nesting" == refusal("[" * 1_000_000)


# JSON leaves these characters as they are, and YAML folds or forbids them.
WORDS = st.text(st.characters(exclude_categories=("Cs", "Cc", "Cn", "Zl", "Zp")))
NUMBERS = st.integers(-(10**30), 10**30) | st.floats(allow_nan=False, allow_infinity=False)
VALUES = st.recursive(
    st.none() | st.booleans() | NUMBERS | WORDS,
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(WORDS, inner, max_size=4),
    max_leaves=12,
)


@given(VALUES)
def test_json_is_yaml(value):
    """What JSON can say is read as it was said."""
    assert value == parse_text(json.dumps(value, ensure_ascii=False), FILE).plain()


@given(st.text(alphabet="ab:-[]{}&*#!|>'\"%@`\t\n ,?<\\~.0\x00\ufeff\u2028", max_size=40))
def test_any_text_is_a_value_or_a_located_mistake(text):
    """No text makes the parser fail in another way, and each mistake has a place inside the file."""
    mistakes: tuple[Diagnostic, ...] = ()
    try:
        parse_text(text, FILE)
    except UserError as error:
        mistakes = error.diagnostics
    for mistake in mistakes:
        assert mistake.mark is not None
        assert mistake.mark.line <= len(text) + 1
        assert mistake.mark.column >= 1
