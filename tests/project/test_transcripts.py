"""Transcripts in the documentation are what the commands print."""

from __future__ import annotations

import pytest
from transcripts import ROOT, Exchange, exchanges, lasting, pages, rewritten, typed

PAGE = """\
# Title
```console
$ rlhfc before the mark
```
<!-- transcript: examples/02-own-stage-kind -->
```console
$ echo one
eins
$ true
```
between
```console
$ echo two; echo three >&2
```
"""


def test_commands_are_typed_and_their_output_is_put_in(tmp_path):
    """From the mark on each command has its own lines, and what it prints takes their place."""
    assert [
        Exchange("echo one", "eins\n"),
        Exchange("true", ""),
        Exchange("echo two; echo three >&2", ""),
    ] == list(exchanges(PAGE))
    now = typed(PAGE, tmp_path)
    page = PAGE.replace("eins", "one").replace(">&2\n", ">&2\ntwo\nthree\n")
    assert page == rewritten(PAGE, now)


def test_what_is_another_each_time_does_not_count():
    """Two runs of one command are the same but for names, times and the columns that these shift."""
    one = "20261122T120456-c2d082  4 min ago  4f1c9e2 (dirty)  done in 0.5 s  b3:0123abcd\n"
    two = "20261123T110456-aaaaaa  just now   0123abc (dirty)  done in 10 s   b3:ffffffff \n"
    assert "RUN AGO COMMIT (dirty) done in TIME DIGEST\n" == lasting(one) == lasting(two)
    assert lasting(one) != lasting(one.replace("dirty", "clean"))


@pytest.mark.parametrize("page", pages(), ids=lambda page: page.relative_to(ROOT).as_posix())
def test_transcripts_are_true(page, tmp_path):
    """What a page shows is what its commands print, one after the other."""
    text = page.read_text(encoding="utf-8")
    hint = "if it is meant: `python tests/project/transcripts.py`"
    now = [Exchange(given.command, lasting(given.output)) for given in typed(text, tmp_path)]
    assert now == [Exchange(given.command, lasting(given.output)) for given in exchanges(text)], hint
