"""Secrets: a stage gets them, and nothing else does."""

from __future__ import annotations

import json
import subprocess
import sys
import time
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st
from rlhfc.stages.common.job import revealed
from workshop import KINDS, Bench, wait_for

from rlhfc.cli.main import main
from rlhfc.run.guard import command_line
from rlhfc.run.streams import Redactor

TOKEN = "hf_9f2KqLm7Zx"
SPEC = f"""schema: 1
kinds: [{KINDS}]
vars: {{token: "${{env:MY_TOKEN}}"}}
defaults:
  environment: {{TOY_SECRET: "${{token}}", TOY_PLAIN: plain}}
stages:
  a: {{kind: toy, behave: BEHAVE, description: "by ${{env:MY_TOKEN}}"}}
"""


@pytest.fixture
def secret(bench: Bench, monkeypatch):
    """Writes a spec whose one stage tells its secret."""
    monkeypatch.delenv("TOY_TRACE", raising=False)
    monkeypatch.setenv("MY_TOKEN", TOKEN)

    def writing(behave: str) -> Bench:
        bench.spec.write_text(SPEC.replace("BEHAVE", behave))
        return bench

    return writing


def rlhfc(bench: Bench, command: str, *options: str) -> int:
    """One command on the bench's spec and store."""
    return main([command, str(bench.spec), *options, "--store", str(bench.folder / "store")])


def files_with(folder: Path, text: str) -> list[str]:
    """Files below a folder in whose name or bytes the text stands."""
    found = [path for path in sorted(folder.rglob("*")) if path.is_file()]
    assert found, "there is a store to look at"
    return [str(path) for path in found if text in str(path) or text.encode() in path.read_bytes()]


def attempt(bench: Bench) -> Path:
    """Folder of the one attempt."""
    (folder,) = (bench.folder / "store" / "work").glob("a-*/attempts/001")
    return folder


def test_secret_is_nowhere_in_the_store(secret, capsys):
    """After plan, run, show and report of a stage that prints its secret, no file and no output has it."""
    bench = secret("tell")
    assert 0 == rlhfc(bench, "plan")
    assert 0 == rlhfc(bench, "run", "--verbose")
    for command in (("plan", "--show"), ("plan", "--json"), ("report",)):
        assert 0 == rlhfc(bench, *command)
    for part in ("--log", "--key", "--metrics"):
        assert 0 == rlhfc(bench, "show", "a", part)
    shown = capsys.readouterr()
    assert [] == files_with(bench.folder / "store", TOKEN)
    assert (False, False) == (TOKEN in shown.out, TOKEN in shown.err)
    assert """whole: <env:MY_TOKEN>.
in parts: <env:MY_TOKEN>.
a child: <env:MY_TOKEN>
three times: <env:MY_TOKEN><env:MY_TOKEN><env:MY_TOKEN>.
begins like it: hf_9f2K""" == (attempt(bench) / "log").read_text()
    environment = json.loads((attempt(bench) / "env.json").read_text())
    assert ("${env:MY_TOKEN}", "plain") == (environment["TOY_SECRET"], environment["TOY_PLAIN"])


def test_secret_of_a_failed_stage_is_nowhere_either(secret, capsys):
    """A survivor with the secret on its command line: neither the run's last words nor any file has it."""
    bench = secret("tell_survivor")
    assert 1 == rlhfc(bench, "run", "--quiet")
    shown = capsys.readouterr()
    assert "time.sleep(1000) <env:MY_TOKEN>` outlived it and was ended" in shown.err
    assert [] == files_with(bench.folder / "store", TOKEN)
    assert (False, False) == (TOKEN in shown.out, TOKEN in shown.err)


@pytest.mark.parametrize("options", [(), ("--target", "b")])
def test_other_stages_tell_no_secret_either(secret, capsys, options):
    """A stage without a reference inherits the variable; what it tells of its environment is redacted."""
    bench = secret("tell")
    bench.spec.write_text(
        f"{bench.spec.read_text()}  b: {{kind: toy, value: 1, behave: tell_all, environment: {{}}}}\n"
    )
    assert 0 == rlhfc(bench, "run", "--verbose", *options)
    shown = capsys.readouterr()
    (log,) = (bench.folder / "store" / "work").glob("b-*/attempts/001/log")
    assert "MY_TOKEN=<env:MY_TOKEN>" in log.read_text().splitlines()
    assert [] == files_with(bench.folder / "store", TOKEN)
    assert (False, False) == (TOKEN in shown.out, TOKEN in shown.err)


def test_other_secret_is_no_other_result(secret, monkeypatch, capsys):
    """A secret enters no key: with another one nothing is to be done."""
    bench = secret("tell")
    assert 0 == rlhfc(bench, "run", "--quiet")
    monkeypatch.setenv("MY_TOKEN", "another")
    capsys.readouterr()
    assert 0 == rlhfc(bench, "plan", "--detailed-exitcode")


@pytest.mark.parametrize("value", [None, ""])
def test_missing_secret_stops_the_run_before_it_starts(secret, monkeypatch, capsys, value):
    """A variable that is not set, or empty, is told with its place; nothing has been written."""
    bench = secret("tell")
    if value is None:
        monkeypatch.delenv("MY_TOKEN")
    else:
        monkeypatch.setenv("MY_TOKEN", value)
    assert 0 == rlhfc(bench, "plan"), "a plan needs no secrets"
    capsys.readouterr()
    assert 1 == rlhfc(bench, "run")
    assert (
        f"""{bench.spec}:3:15: error: a: environment variable `MY_TOKEN` is not set
    3 | vars: {{token: "${{env:MY_TOKEN}}"}}
      |               ^^^^^^^^^^^^^^^^^
hint: `export MY_TOKEN=…`
"""
        == capsys.readouterr().err
    )
    assert not (bench.folder / "store").exists()


def told(secrets: dict[str, str], parts: list[bytes]) -> bytes:
    """What a redactor lets pass of bytes that come in parts."""
    redactor = Redactor(secrets)
    return b"".join(redactor.feed(part) for part in parts) + redactor.flush()


@given(st.data())
def test_redaction_does_not_hang_on_how_bytes_arrive(data):
    """However the output is cut, it is redacted as a whole, and of disjoint secrets nothing is left."""
    secrets = data.draw(st.sampled_from([{"A": "abab"}, {"A": "aab", "B": "xyz"}, {"A": "é"}, {"A": "x"}]))
    pieces = st.sampled_from([*"abxyz", *secrets.values(), secrets["A"][:2], "é"])
    text = "".join(data.draw(st.lists(pieces, max_size=12))).encode()
    cuts = sorted(data.draw(st.lists(st.integers(0, len(text)), max_size=6)))
    parts = [text[start:end] for start, end in zip([0, *cuts], [*cuts, len(text)], strict=True)]
    assert told(secrets, [text]) == told(secrets, parts)
    assert all(
        value.encode() not in told(secrets, parts).replace(b"<env:", b"<") for value in secrets.values()
    )


def test_longer_secret_wins_and_lines_count(secret):
    """Of two secrets that begin alike the longer is looked for first; long lines of one are secrets too."""
    assert b"<env:B> <env:A>." == told({"A": "abc", "B": "abcdef"}, [b"ab", b"cde", b"f abc", b"."])
    assert b"<env:A>" == told({"A": "abc", "B": "abcdef"}, [b"abc"]), "at the end, what was held back"
    key = "-----BEGIN-----\nMIIEvQIBADANBg\nshort\n-----END-----"
    assert b"x <env:K>\nx short\n<env:K>" == told({"K": key}, [f"x MIIEvQIBADANBg\nx short\n{key}".encode()])


def test_no_secrets_change_nothing():
    """Without secrets every byte passes at once."""
    redactor = Redactor({})
    assert (b"a\xff", b"", b"x") == (redactor.feed(b"a\xff"), redactor.flush(), redactor.whole(b"x"))


def test_white_space_around_a_secret_is_no_part_of_it():
    """A value from a file ends in a line end, which is cut off before it is used."""
    assert b"is <env:A>." == told({"A": "s3cret\n"}, [b"is s3c", b"ret."])
    assert b"<env:A>x" == told({"A": " s3cret"}, [b" s3cretx"])
    assert b"<env:B>\r\n<env:B>\n" == told({"B": "first-line\rother-line"}, [b"first-line\r\nother-line\n"])


def test_long_secret_takes_no_memory_and_no_time():
    """A secret as long as a variable may be, full of beginnings of itself, is looked for quickly."""
    value = "ab" * 60_000 + "c"
    began = time.perf_counter()
    assert b"<env:A>" * 3 == told(
        {"A": value}, [value.encode()[:70_000], value.encode()[70_000:] + 2 * value.encode()]
    )
    assert time.perf_counter() - began < 5


def test_command_is_cut_after_it_is_redacted():
    """A secret across the place where a long command is cut shows no beginning of itself."""
    padding = "p" * 300
    command = [sys.executable, "-c", "input()", padding, "x" * 60 + TOKEN * 5]
    with subprocess.Popen(command, stdin=subprocess.PIPE) as process:
        try:
            wait_for(lambda: padding in command_line(process.pid, Redactor({})))
            shown = command_line(process.pid, Redactor({"T": TOKEN}))
        finally:
            process.kill()
    assert f"{sys.executable} -c input() {padding} {'x' * 60}{'<env:T>' * 5}"[:400].strip() == shown


def test_stage_reveals_a_setting_when_it_needs_it(monkeypatch):
    """A stage's parameters hold references; the library of stages looks one up."""
    monkeypatch.setenv("MY_TOKEN", TOKEN)
    assert f"t-{TOKEN}, $x" == revealed("t-${env:MY_TOKEN}, $x")
