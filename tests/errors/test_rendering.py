"""How mistakes look, and which name was meant."""

from __future__ import annotations

from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from rlhfc.errors import Diagnostic, Mark, UserError, did_you_mean, nearest

FILE = Path("spec.yaml")


def test_one_mistake_has_no_count():
    """A single diagnostic is shown alone, and without a mark it is one line."""
    assert "error: no store\nhint: make one" == UserError(Diagnostic("no store", hint="make one")).render()


def test_several_mistakes_are_counted_at_the_end():
    """Diagnostics are separated by blank lines, with their number last."""
    error = UserError([Diagnostic("a"), Diagnostic("b")])
    assert "error: a\n\nerror: b\n\n2 errors" == error.render() == str(error)


def test_excerpt_is_read_from_the_file_when_the_mark_has_none(tmp_path):
    """A mark without its line shows the file's; a file that is gone leaves the excerpt out."""
    file = tmp_path / "spec.yaml"
    file.write_text("one\ntwo: 2\n", encoding="utf-8")
    error = UserError(Diagnostic("wrong", Mark(file, 2, 6)))
    assert f"{file}:2:6: error: wrong\n    2 | two: 2\n      |      ^" == error.render()
    file.unlink()
    assert f"{file}:2:6: error: wrong" == error.render()


def test_colour_repeats_what_the_text_says():
    """With colour the same text is painted, and no more."""
    error = UserError(Diagnostic("wrong", Mark(FILE, 1, 1, 2, "ab"), "fix"))
    painted = error.render(colour=True)
    assert "\x1b[31merror:\x1b[0m wrong" in painted
    stripped = painted
    for code in ("\x1b[31m", "\x1b[36m", "\x1b[1m", "\x1b[0m"):
        stripped = stripped.replace(code, "")
    assert error.render() == stripped


@given(st.text(max_size=300), st.integers(1, 310), st.integers(1, 50))
def test_any_excerpt_is_two_lines(text, column, length):
    """Whatever a line holds and wherever a mark points, the excerpt is one line and its pointer."""
    line = "".join(text.splitlines())
    shown = UserError(Diagnostic("wrong", Mark(FILE, 1, column, length, line))).render()
    assert 3 == len(shown.split("\n"))
    assert shown.endswith("^")
    assert all(char.isprintable() or char == "\n" for char in shown)


@pytest.mark.parametrize(
    ("name", "expected"),
    [
        ("learning_rat", "learning_rate"),
        ("Learning-Rate", "learning_rate"),
        ("epoch", "epochs"),
        ("colour", None),
    ],
)
def test_nearest_name(name, expected):
    """The nearest name ignores case and dashes, and far-off names are not guessed."""
    assert expected == nearest(name, ["learning_rate", "epochs", "lora"])


def test_short_sets_are_listed_and_long_ones_not():
    """Where nothing is near, a short closed set is listed whole."""
    assert "ports: `model`, `data`" == did_you_mean("zzz", ["model", "data"], "ports")
    assert did_you_mean("zzz", [f"name{index}" for index in range(13)], "ports") is None
