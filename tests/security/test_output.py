"""A terminal and a browser obey nothing that comes from models, data, names or logs."""

from __future__ import annotations

import io
import json
import subprocess
import sys
from html.parser import HTMLParser

import pytest
from hypothesis import given
from hypothesis import strategies as st

from rlhfc.cli.main import main
from rlhfc.errors import PLAIN, RED
from rlhfc.report.write import _environment
from rlhfc.run.logs import clean
from rlhfc.terminal import CONTROL, PlainStream, visible

HOSTILE = "\x1b]0;owned\x07\x1b[2J\x9b31m\u202eevil\r"
SPEC = """\
schema: 1
name: "a\\e]0;owned\\a\\e[2Jb\\u202e"
stages:
  card: {kind: export, model: {path: model}, description: "\\e[8m"}
"""


@pytest.fixture
def spec(tmp_path, monkeypatch):
    """A pipeline whose name holds what a terminal obeys."""
    monkeypatch.chdir(tmp_path)
    (tmp_path / "model").mkdir()
    (tmp_path / "model" / "config.json").write_text("{}")
    (tmp_path / "spec.yaml").write_text(SPEC)
    return "spec.yaml"


def passed(text: str) -> str:
    """What reaches the terminal."""
    stream = io.StringIO()
    PlainStream(stream).write(text)
    return stream.getvalue()


def test_control_characters_are_written_out():
    """Escapes, C1 controls, bells, lone carriage returns and reversed order become text."""
    said = "\\u001b]0;owned\\u0007\\u001b[2J\\u009b31m\\u202eevil\\u000d"
    assert (said, said) == (visible(HOSTILE), passed(HOSTILE))


def test_our_own_colours_pass():
    """Text, tabs, newlines and the colours of messages come out as they went in."""
    text = f"{RED}error:{PLAIN} naïve\t✓ 日本\r\nnext"
    assert text == passed(text)


@given(st.text())
def test_json_means_the_same(text):
    """What is written out inside JSON is JSON's own form of the character."""
    line = json.dumps({"name": text}, ensure_ascii=False)
    assert {"name": text} == json.loads(passed(line))


@given(st.text())
def test_nothing_else_passes(text):
    """No control character of any input is left, but for our colours."""
    left = passed(text)
    for colour in (RED, PLAIN, "\x1b[36m", "\x1b[1m"):
        left = left.replace(colour, "")
    assert "" == "".join(CONTROL.findall(left.replace("\r\n", "\n")))


@pytest.mark.parametrize(
    "command",
    [
        ("plan",),
        ("plan", "--json"),
        ("plan", "--show"),
        ("config",),
        ("config", "--json"),
        ("graph", "--no-state"),
        ("graph", "--no-state", "--format", "dot"),
        ("graph", "--no-state", "--format", "svg"),
        ("status",),
        ("explain", "card"),
        ("plan", "--set", "card.nothing=\x1b[2J"),
    ],
    ids=" ".join,
)
def test_no_command_lets_a_name_through(command, spec, capsys):
    """Whatever a command prints of a hostile spec, no control character is in it."""
    main([command[0], spec, *command[1:]])
    out, err = capsys.readouterr()
    assert out + err
    assert [] == CONTROL.findall(out + err)


def test_the_installed_command_is_filtered_too(spec):
    """The process that a user starts, as a whole."""
    done = subprocess.run([sys.executable, "-m", "rlhfc", "plan", spec], capture_output=True, check=False)
    assert b"owned" in done.stdout
    assert [] == CONTROL.findall(done.stdout.decode() + done.stderr.decode())


@given(st.text())
def test_lines_of_logs_are_clean(text):
    """A log's line holds neither control sequences nor what turns the order around."""
    assert [] == CONTROL.findall(clean(text).replace("\r", ""))


class Tags(HTMLParser):
    """Notes every tag with its attributes."""

    def __init__(self):
        super().__init__()
        self.tags = []

    def handle_starttag(self, tag, attrs):
        """Note it."""
        self.tags.append((tag, dict(attrs)))


@given(st.text())
def test_templates_of_the_report_escape(text):
    """A value can neither open a tag nor leave an attribute, in quotes of either kind."""
    template = _environment().from_string("""<p title="{{ x }}">{{ x }}</p><p title='{{ x }}'></p>""")
    for hostile in (text, f'"><script>{text}', f"'><img src=x onerror={text}>"):
        parser = Tags()
        parser.feed(template.render(x=hostile))
        assert ["p", "p"] == [tag for tag, _ in parser.tags]
        assert [["title"], ["title"]] == [list(attributes) for _, attributes in parser.tags]
