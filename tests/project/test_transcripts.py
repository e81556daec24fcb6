"""Output in the documentation is what the commands print."""

from __future__ import annotations

import re

import pytest
from recorded import load
from transcripts import (
    ROOT,
    Exchange,
    Session,
    lasting,
    lasting_text,
    pages,
    rewritten,
    sessions,
    typed,
    untyped,
)

from rlhfc.plan.quantities import duration
from rlhfc.run.summary import figures

PAGE = """\
# Title
```sh
rlhfc before the mark
```
<!-- transcript: examples/02-own-stage-kind -->
```console
$ echo one; said=three
eins
$ true
```
between
<!-- typed: echo unseen
echo "$said" > note -->

1. In a list:

   <!-- prints: ls *.yaml; cat note -->
   ```text
   zwei
   ```
<!-- transcript: elsewhere -->
```console
$ ls; echo two >&2
```
"""
SESSIONS = [
    Session(
        5,
        "examples/02-own-stage-kind",
        (
            Exchange("echo one; said=three", "eins\n"),
            Exchange("true"),
            Exchange('echo unseen\necho "$said" > note', unseen=True),
            Exchange("ls *.yaml; cat note", "zwei\n"),
        ),
    ),
    Session(21, "elsewhere", (Exchange("ls; echo two >&2"),)),
]
KEPT = [(page, session) for page in pages() for session in sessions(page.read_text(encoding="utf-8"))]


def named(page):
    """A page as it is called."""
    return page.relative_to(ROOT).as_posix()


def test_commands_are_typed_and_their_output_is_put_in(tmp_path):
    """Each session begins afresh; what it shows has its own lines, and what is printed takes their place."""
    assert SESSIONS == sessions(PAGE)
    now = [typed(session, tmp_path / str(number)) for number, session in enumerate(SESSIONS)]
    page = (
        PAGE.replace("eins", "one").replace("zwei", "pipeline.yaml\n   three").replace(">&2\n", ">&2\ntwo\n")
    )
    assert page == rewritten(PAGE, now)


def test_sessions_that_are_true_are_left_alone(tmp_path):
    """Other times are no reason to rewrite a page."""
    page = "<!-- transcript: new -->\n```console\n$ echo done in 7 s\ndone in 3 s\n```\n"
    assert page == rewritten(page, [typed(session, tmp_path) for session in sessions(page)])


def test_a_command_that_is_typed_unseen_must_succeed(tmp_path):
    """An edit that no longer finds its line is told."""
    with pytest.raises(RuntimeError, match="line 1: `cat missing` failed:\ncat: missing"):
        typed(Session(1, "new", (Exchange("true"), Exchange("cat missing", unseen=True))), tmp_path)


def test_blocks_that_nothing_prints_are_found():
    """Output without a session, a text block without its command, a block without a language."""
    page = "```console\n$ early\n```\n" + PAGE + "```text\nlate\n```\n```\nbare\n```\n"
    assert ["$ early", "late", "bare"] == untyped(page)


def test_what_is_another_each_time_does_not_count():
    """Two runs of one command are the same but for names, times and the columns that these shift."""
    one = "20261122T120456-c2d082  4 min ago  4f1c9e2 (dirty)  done in 0.5 s  b3:0123abcd (7.4 GB free)\n"
    two = "20261123T110456-aaaaaa  just now   0123abc (dirty)  done in 10 s   b3:ffffffff (74 MB free) \n"
    told = "split: step 1/7 14 %\n"
    assert (
        "RUN AGO COMMIT (dirty) done in TIME DIGEST (SIZE free)\n"
        == lasting_text(one + told)
        == lasting_text(two)
    )
    assert lasting_text(one) != lasting_text(one.replace("dirty", "clean"))


@pytest.mark.parametrize("page", pages(), ids=named)
def test_every_block_of_output_is_kept_true(page):
    """No page shows output that was pasted by hand."""
    assert [] == untyped(page.read_text(encoding="utf-8"))


@pytest.mark.parametrize(
    ("page", "session"), KEPT, ids=[f"{named(page)}:{session.line}" for page, session in KEPT]
)
def test_transcripts_are_true(page, session, tmp_path):
    """What a page shows is what its commands print, one after the other."""
    hint = f"if it is meant: `python tests/project/transcripts.py {named(page)}`"
    assert lasting(typed(session, tmp_path)) == lasting(session), hint


def test_page_of_the_quickstart_is_of_its_recorded_run():
    """Times and figures of the stages on the page are those that the transcripts show."""
    page = (ROOT / "docs" / "quickstart.md").read_text(encoding="utf-8")
    rows = [
        f"| {name} | {duration(stage['seconds'])} | {figures(stage['summary'])} |"
        for name, stage in load("quickstart").items()
    ]
    assert rows == re.findall(r"^\| \w+ \| [^|]*\bs \| .*$", page, re.MULTILINE)
