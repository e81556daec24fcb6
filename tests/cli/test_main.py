"""The command line: dispatch, exit statuses, what is imported, and the commands `init` and `schema`."""

from __future__ import annotations

import errno
import json
import os
import subprocess
import sys
from pathlib import Path
from types import SimpleNamespace

import pytest

from rlhfc import __version__
from rlhfc.cli import main as cli
from rlhfc.cli.commands import COMMANDS
from rlhfc.cli.init import pairs
from rlhfc.cli.main import main
from rlhfc.spec.load import load_pipeline

HEAVY = (
    "pydantic",
    "jinja2",
    "rich",
    "networkx",
    "yaml",
    "blake3",
    "torch",
    "transformers",
    "datasets",
    "deepspeed",
)
HELP = """usage: rlhfc [-h] [--version] COMMAND ...

Compile one YAML file into an RLHF pipeline, and run what is not done yet.

options:
  -h, --help  show this help message and exit
  --version   show program's version number and exit

commands:
  COMMAND
    init      write a first pipeline into an empty folder
    plan      show what would run, and why
    explain   tell why a stage is cached or not, value by value
    run       run what is not done yet
    push      send results to a shared store
    pull      take results from a shared store
    status    show where every stage stands, also while it runs
    show      show a stage: result, artefacts, attempts, log, metrics
    data      show rows token by token, with what is learnt of them
    accept    let a stage's last result stand for what the spec says now
    tag       name a result, which is then kept; list the names
    gc        remove what nobody needs from the store
    history   list runs and acceptances, the newest first
    diff      tell what differs between two runs or two specs
    config    print the spec with all defaults, and where each value is from
    graph     draw the stages and their states as Mermaid, DOT or SVG
    report    write the HTML report of a pipeline
    fsck      look at every file of a store, and repair what is damaged
    trust     say that the code in a folder may run
    schema    write the JSON Schemas of a spec and of a plan
    completion
              print a shell's completion script
"""


def called(*arguments: str, **options) -> subprocess.CompletedProcess[str]:
    """What `python -m rlhfc` does with these arguments."""
    command = [sys.executable, "-m", "rlhfc", *arguments]
    return subprocess.run(command, capture_output=True, text=True, timeout=60, check=False, **options)


@pytest.fixture
def plain(monkeypatch):
    """A terminal of 100 columns without colour."""
    monkeypatch.setenv("COLUMNS", "100")
    monkeypatch.setenv("NO_COLOR", "1")


@pytest.fixture
def command(monkeypatch):
    """Replaces the work of `plan` by a function."""

    def replacing(work):
        module = SimpleNamespace(run=work)
        monkeypatch.setattr(cli.importlib, "import_module", lambda name: module)

    return replacing


@pytest.mark.parametrize("arguments", [[], ["--help"]], ids=["nothing", "help"])
def test_help_lists_the_commands(arguments, plain):
    """Without arguments, as with `--help`, every command is listed with one line."""
    result = called(*arguments)
    assert (0, HELP, "") == (result.returncode, result.stdout, result.stderr)


@pytest.mark.parametrize("arguments", [["--help"], *([name, "--help"] for name in COMMANDS)], ids=" ".join)
def test_help_imports_nothing_heavy(arguments):
    """`--help`, of rlhfc and of each command, needs the standard library and nothing else."""
    script = (
        "import sys, contextlib, io\n"
        "from rlhfc.cli.main import main\n"
        "with contextlib.suppress(SystemExit), contextlib.redirect_stdout(io.StringIO()):\n"
        f"    main({arguments})\n"
        "print(' '.join(sys.modules))\n"
    )
    result = subprocess.run(
        [sys.executable, "-c", script], capture_output=True, text=True, check=True, timeout=60
    )
    assert set() == set(HEAVY) & set(result.stdout.split())


@pytest.mark.parametrize("name", COMMANDS)
def test_every_command_has_its_module(name, plain, capsys):
    """Each listed command can be asked for its help."""
    with pytest.raises(SystemExit) as exit_:
        main([name, "--help"])
    out = capsys.readouterr().out
    assert (0, f"usage: rlhfc {name}") == (exit_.value.code, out[: len(f"usage: rlhfc {name}")])
    summary = COMMANDS[name].summary
    assert f"\n\n{summary[0].upper()}{summary[1:]}.\n\n" in out


def test_loading_commands_imports_no_training_library():
    """No command's module brings torch, transformers, datasets or deepspeed."""
    names = [command.module for command in COMMANDS.values()]
    script = "import importlib, sys\n" + "".join(f"importlib.import_module({name!r})\n" for name in names)
    script += "print(' '.join(sys.modules))\n"
    result = subprocess.run(
        [sys.executable, "-c", script], capture_output=True, text=True, check=True, timeout=60
    )
    assert set() == {"torch", "transformers", "datasets", "deepspeed"} & set(result.stdout.split())


def test_version_is_told():
    """`--version` prints the version on standard output."""
    result = called("--version")
    assert (0, f"rlhfc {__version__}\n", "") == (result.returncode, result.stdout, result.stderr)


MISTAKES = {
    ("pln",): "error: there is no command `pln`\nhint: did you mean `plan`?\n",
    ("frobnicate",): "error: there is no command `frobnicate`\nhint: see `rlhfc --help`\n",
    ("--verbos",): "error: `rlhfc` has no option `--verbos`\nhint: see `rlhfc --help`\n",
    ("schema", "--chek"): "error: `rlhfc schema` has no option `--chek`\nhint: did you mean `--check`?\n",
    ("plan", "p.yaml", "--frm", "a", "--quiet=x"): (
        "error: `rlhfc plan` has no option `--frm`\nhint: did you mean `--from`?\n\n"
        "error: `rlhfc plan` has no option `--quiet`\nhint: see `rlhfc plan --help`\n\n"
        "2 errors\n"
    ),
    ("plan", "p.yaml", "sft"): (
        "error: `rlhfc plan` takes no argument `sft` here\nhint: see `rlhfc plan --help`\n"
    ),
    ("graph", "p.yaml", "--format", "pmg"): (
        "error: argument --format: expected one of `mermaid`, `dot`, `svg`, got `pmg`\n"
    ),
    ("completion", "bsh"): (
        "error: argument SHELL: expected one of `bash`, `zsh`, `fish`, got `bsh`\n"
        "hint: did you mean `bash`?\n"
    ),
    ("history", "-n", "x"): "error: `-n x` is no count\nhint: give 1 or more\n",
    (
        "schema",
        "--output",
    ): "error: argument --output: expected one argument\nhint: see `rlhfc schema --help`\n",
}


@pytest.mark.parametrize("arguments", MISTAKES, ids=" ".join)
def test_mistake_on_the_command_line_exits_with_1(arguments, capsys):
    """A wrong command line is told like any mistake; status 2 is left to `--detailed-exitcode`."""
    assert 1 == main(arguments)
    captured = capsys.readouterr()
    assert ("", MISTAKES[arguments]) == (captured.out, captured.err)


def test_mistake_in_a_spec_is_rendered_on_stderr(tmp_path):
    """A mistake in the spec exits with 1, says where, writes nothing and shows no traceback."""
    (tmp_path / "spec.yaml").write_text("schema: 1\nstages:\n  a: {kind: exprt}\n", encoding="utf-8")
    result = called("plan", "spec.yaml", cwd=tmp_path)
    expected = (
        "spec.yaml:3:13: error: a.kind: there is no kind `exprt`\n"
        "    3 |   a: {kind: exprt}\n"
        "      |             ^^^^^\n"
        "hint: did you mean `export`?\n"
    )
    assert (1, "", expected) == (result.returncode, result.stdout, result.stderr)
    assert ["spec.yaml"] == [path.name for path in tmp_path.iterdir()]


def test_status_of_the_command_is_passed_on(command):
    """What a command returns is the exit status."""
    command(lambda arguments: 2)
    assert 2 == main(["plan", "spec.yaml"])


def test_unexpected_error_keeps_its_traceback(command):
    """A bug of ours is not dressed up as the user's mistake."""

    def broken(arguments):
        raise ZeroDivisionError("ours")

    command(broken)
    with pytest.raises(ZeroDivisionError, match="ours"):
        main(["plan", "spec.yaml"])


def test_fault_of_the_machine_is_told_like_a_mistake(command, capsys):
    """A full disk is no bug of ours: reason, place, remedy and status 1. Other errors of a call are."""

    def fails(*given):
        def run(arguments):
            raise OSError(*given)

        return run

    command(fails(errno.ENOSPC, "No space left on device", "/data/ledger.jsonl"))
    assert 1 == main(["plan", "spec.yaml"])
    assert capsys.readouterr().err == (
        "error: No space left on device: `/data/ledger.jsonl`\n"
        "hint: make room on its disk, then give the same command again: it goes on where it was\n"
    )
    command(fails(errno.EIO, "Input/output error"))
    assert 1 == main(["plan", "spec.yaml"])
    assert "error: Input/output error\n" in capsys.readouterr().err
    command(fails(errno.ENOTDIR, "Not a directory", "/data"))
    with pytest.raises(NotADirectoryError):
        main(["plan", "spec.yaml"])


def test_interrupt_exits_with_130(command, capsys):
    """Ctrl-C ends a command with status 130 and one word."""

    def interrupted(arguments):
        raise KeyboardInterrupt

    command(interrupted)
    assert 130 == main(["plan", "spec.yaml"])
    assert "interrupted\n" == capsys.readouterr().err


def test_closed_pipe_is_quiet():
    """A reader that stops listening is no reason for a traceback."""
    reader, writer = os.pipe()
    os.close(reader)
    script = "import sys; from rlhfc.cli import main as m\n"
    script += "class C:\n  run = staticmethod(lambda a: print('x' * 100000, flush=True) or 0)\n"
    script += "m.importlib.import_module = lambda name: C\nsys.exit(m.main(['plan', 'spec.yaml']))\n"
    with os.fdopen(writer, "w") as out:
        result = subprocess.run(
            [sys.executable, "-c", script],
            stdout=out,
            stderr=subprocess.PIPE,
            text=True,
            check=False,
            timeout=60,
        )
    assert (1, "") == (result.returncode, result.stderr)


@pytest.mark.parametrize(
    ("terminal", "environment", "expected"),
    [(True, {}, True), (False, {}, False), (True, {"NO_COLOR": "1"}, False), (True, {"TERM": "dumb"}, False)],
)
def test_colour_is_for_terminals_that_want_it(terminal, environment, expected, monkeypatch):
    """Colour appears on a terminal only, and not with NO_COLOR or a dumb one."""
    monkeypatch.delenv("NO_COLOR", raising=False)
    monkeypatch.setenv("TERM", "xterm")
    for name, value in environment.items():
        monkeypatch.setenv(name, value)
    assert expected == cli.colourful(SimpleNamespace(isatty=lambda: terminal))


def test_init_writes_a_pipeline_that_plan_accepts(tmp_path):
    """`init` writes a spec and its data, says the next command, and that command works as it is."""
    result = called("init", "first", cwd=tmp_path)
    told = "wrote first/pipeline.yaml\nwrote first/data/pairs.jsonl\n"
    told += "next: cd first && rlhfc plan pipeline.yaml\n"
    assert (0, told, "") == (result.returncode, result.stdout, result.stderr)
    planned = called("plan", "pipeline.yaml", "--json", cwd=tmp_path / "first")
    assert (0, 7) == (planned.returncode, len(json.loads(planned.stdout)["stages"])), planned.stderr


def test_init_takes_a_local_model(tmp_path, monkeypatch, capsys):
    """A path given as `--model` becomes a local source, whatever characters it holds."""
    model = tmp_path / 'my "model": 1'
    model.mkdir()
    monkeypatch.chdir(tmp_path)
    assert 0 == main(["init", "--model", model.name])
    assert "next: rlhfc plan pipeline.yaml\n" == capsys.readouterr().out.splitlines(keepends=True)[-1]
    split = load_pipeline(Path("pipeline.yaml")).stages["split"].params
    assert (str(model), None) == (split.tokenizer.path, split.tokenizer.hub)


def test_init_refuses_a_model_that_is_not_there(tmp_path, capsys):
    """A `--model` that is neither a path nor a hub id writes nothing."""
    assert 1 == main(["init", str(tmp_path / "new"), "--model", "./no/such"])
    expected = "error: `--model ./no/such` does not exist\n"
    expected += "hint: give a folder, a GGUF file or a hub id `owner/name`\n"
    assert (expected, False) == (capsys.readouterr().err, (tmp_path / "new").exists())


def test_init_does_not_overwrite(tmp_path, capsys):
    """Where a file is there already, `init` leaves everything as it is."""
    (tmp_path / "data").mkdir()
    (tmp_path / "data" / "pairs.jsonl").write_text("mine\n", encoding="utf-8")
    assert 1 == main(["init", str(tmp_path)])
    expected = f"error: `{tmp_path / 'data' / 'pairs.jsonl'}` is there already\n"
    expected += "hint: name another folder: `rlhfc init DIR`\n"
    assert expected == capsys.readouterr().err
    assert "mine\n" == (tmp_path / "data" / "pairs.jsonl").read_text(encoding="utf-8")
    assert ["data"] == [path.name for path in tmp_path.iterdir()]


def test_init_data_has_distinct_questions_and_answers():
    """No question is asked twice, and no friendly answer is the curt one."""
    rows = list(pairs())
    assert (180, 180) == (len(rows), len({row["question"] for row in rows}))
    assert [] == [row for row in rows if row["curt"] == row["friendly"] or row["curt"] not in row["friendly"]]


def test_schema_is_written_and_checked(tmp_path, capsys):
    """`schema` writes the files; `--check` accepts them, refuses a stale one, and writes nothing."""
    target = tmp_path / "out" / "plan.schema.json"
    assert 1 == main(["schema", "--check", "--output", str(target.parent)])
    assert not target.exists()
    assert 0 == main(["schema", "--output", str(target.parent)])
    assert 0 == main(["schema", "--check", "--output", str(target.parent)])
    target.write_text("{}\n", encoding="utf-8")
    capsys.readouterr()
    assert 1 == main(["schema", "--check", "--output", str(target.parent)])
    expected = f"error: `{target}` is not what the code says\n"
    expected += f"hint: run `rlhfc schema --output {target.parent}`\n"
    assert (expected, "{}\n") == (capsys.readouterr().err, target.read_text(encoding="utf-8"))
