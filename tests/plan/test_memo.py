"""Plans that are known already: shown again only while nothing behind them has changed."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
import threading
import zlib
from collections.abc import Callable
from pathlib import Path

import pytest
from toy import KIND, SPEC

from rlhfc.cli import afresh
from rlhfc.cli.main import main
from rlhfc.plan import memo
from rlhfc.store.store import Store

LOADED = """
import sys
sys.path[:] = {path!r}
from rlhfc.cli.main import main
main(sys.argv[1:])
print(*sorted(set(name.partition(".")[0] for name in sys.modules) - sys.stdlib_module_names), file=sys.stderr)
"""


@pytest.fixture
def made(spec: Path, monkeypatch: pytest.MonkeyPatch) -> list[int]:
    """Grows by one with each plan that is made anew; every time stamp counts as old enough."""
    plans: list[int] = []
    make = afresh.plan_afresh

    def counting(*given):
        plans.append(len(plans))
        return make(*given)

    monkeypatch.setattr(afresh, "plan_afresh", counting)
    monkeypatch.setattr(memo, "RACY_NS", -(10**15))
    Store.create(spec.parent / ".rlhfc")
    (spec.parent / "kinds/toy/table.txt").write_text("1\n")
    (spec.parent / "kinds/toy/main.py").write_text("import toy.helper\n")
    (spec.parent / "kinds/toy/helper.py").write_text("A = 1\n")
    (spec.parent / "rows").mkdir()
    (spec.parent / "rows/a.jsonl").write_text("{}\n")
    spec.write_text(SPEC.replace("{path: rows.jsonl}", "{path: rows}"))
    assert 0 == main(["plan", "toy.yaml"])
    assert 0 == main(["plan", "toy.yaml"])
    assert 1 == len(plans)
    return plans


def test_the_same_output(made: list[int], capsys: pytest.CaptureFixture[str]) -> None:
    """What is shown again is what was shown, as text, as JSON and as exit status."""
    forms = (["plan", "toy.yaml"], ["plan", "toy.yaml", "--json"])
    capsys.readouterr()
    again = [(main(form), capsys.readouterr()) for form in forms]
    assert 1 == len(made)
    for file in Path(".rlhfc/plans").iterdir():
        file.unlink()
    assert [(main(form), capsys.readouterr()) for form in forms] == again
    assert 2 == main(["plan", "toy.yaml", "--detailed-exitcode"])


CHANGES: dict[str, Callable[[Path], object]] = {
    "the spec": lambda at: (at / "toy.yaml").write_text(SPEC),
    "a source": lambda at: (at / "rows/a.jsonl").write_text("{}\n{}\n"),
    "a new file of a source": lambda at: (at / "rows/b.jsonl").write_text("{}\n"),
    "a file of a source that is gone": lambda at: (
        (at / "rows/b.jsonl").write_text("{}\n"),
        (at / "rows/a.jsonl").unlink(),
    ),
    "the kind": lambda at: (at / "kinds/toy/kind.py").write_text(KIND.replace("0.1", "0.25")),
    "its template": lambda at: (at / "kinds/toy/launch.argv.j2").write_text("{{ launch.python }}\n-m\n"),
    "its code": lambda at: (at / "kinds/toy/main.py").write_text("import toy.helper as helper\n"),
    "code that it imports": lambda at: (at / "kinds/toy/helper.py").write_text("A = 12\n"),
    "code that hides other code": lambda at: (
        (at / "kinds/toy/helper").mkdir(),
        (at / "kinds/toy/helper/__init__.py").write_text("A = 3\n"),
    ),
    "a file beside its code": lambda at: (at / "kinds/toy/table.txt").write_text("12\n"),
    "a new file beside its code": lambda at: (at / "kinds/toy/more.txt").write_text("1\n"),
    "another kind": lambda at: (
        (at / "kinds/other").mkdir(),
        (at / "kinds/other/kind.py").write_text("KIND = None\n"),
    ),
    "the ledger": lambda at: Store.create(at / ".rlhfc").ledger.append("run", run="r", pipeline="toy"),
    "the user's mirrors": lambda at: (
        (at / "none/rlhfc").mkdir(parents=True),
        (at / "none/rlhfc/config.toml").write_text("[mirror]\n"),
    ),
}


@pytest.mark.parametrize("what", CHANGES)
def test_what_makes_a_plan_anew(what: str, made: list[int], spec: Path) -> None:
    """A change of anything that the plan was made from."""
    CHANGES[what](spec.parent)
    assert main(["plan", "toy.yaml"]) in (0, 1)
    assert 2 == len(made)


@pytest.mark.parametrize(
    "options", [["--set", "first.rate=0.5"], ["--force", "first"], ["--mirror", "a/b=rows"], ["--show"]]
)
def test_other_options_are_another_question(options: list[str], made: list[int]) -> None:
    """A memo answers only the very question that it was kept for."""
    main(["plan", "toy.yaml", *options])
    assert 2 == len(made)


def test_variables_are_part_of_the_question(made: list[int], monkeypatch: pytest.MonkeyPatch) -> None:
    """So is the environment, as far as rlhfc reads it."""
    monkeypatch.setenv("HF_HOME", "elsewhere")
    main(["plan", "toy.yaml"])
    assert 2 == len(made)


@pytest.mark.parametrize("damage", ["", "{", "[]\n[]\n", "{}\n{}\n", "null\n"])
def test_a_damaged_memo_is_made_anew(damage: str, made: list[int]) -> None:
    """Whatever is in the file, the plan is right."""
    for file in Path(".rlhfc/plans").iterdir():
        file.write_text(damage)
    assert 0 == main(["plan", "toy.yaml"])
    assert 2 == len(made)


def test_fresh_time_stamps_are_not_trusted(made: list[int], monkeypatch: pytest.MonkeyPatch) -> None:
    """A file that was written within the last two seconds may change again under the same stamp."""
    monkeypatch.setattr(memo, "RACY_NS", 3_600_000_000_000)
    for file in Path(".rlhfc/plans").iterdir():
        file.unlink()
    main(["plan", "toy.yaml"])
    main(["plan", "toy.yaml"])
    assert 3 == len(made)


def test_a_store_that_is_missing_is_not_made(spec: Path) -> None:
    """A plan is remembered in a store that exists, and makes none."""
    main(["plan", "toy.yaml"])
    assert not Path(".rlhfc").exists()


def test_what_the_store_has_lost_is_said_each_time(
    made: list[int], spec: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """A warning is part of the plan, and stands on stderr whether the plan is made or known."""
    ledger = Path(".rlhfc/ledger.jsonl")
    ledger.write_text("no entry\n")
    capsys.readouterr()
    expected = f"warning: `{ledger.absolute()}:1` is damaged; the line is skipped\n"
    for _ in range(2):
        main(["plan", "toy.yaml"])
        assert expected == capsys.readouterr().err
    assert 2 == len(made)


def test_a_known_plan_needs_the_standard_library_only(made: list[int]) -> None:
    """No dependency is imported, in any form of the output."""
    for form in ([], ["--json"], ["--detailed-exitcode"]):
        command = [sys.executable, "-c", LOADED.format(path=sys.path), "plan", "toy.yaml", *form]
        done = subprocess.run(command, capture_output=True, text=True, check=False)
        loaded = {name for name in done.stderr.split() if not name.startswith("__editable__")}
        assert {"rlhfc", "__main__"} == loaded - {"sitecustomize", "usercustomize", "_distutils_hack"}


def test_the_memo_is_json(made: list[int]) -> None:
    """Three lines: a checksum of the others, the question with its stamps, and the plan."""
    (file,) = Path(".rlhfc/plans").iterdir()
    crc, *lines = file.read_bytes().splitlines(keepends=True)
    asked, document = map(json.loads, lines)
    assert f"{zlib.crc32(b''.join(lines)):08x}\n".encode() == crc
    assert ["question", "stamps"] == sorted(asked)
    assert "1.0" == document["format_version"]


@pytest.mark.parametrize("edited", ["parts/base.yaml", "parts/more.yaml", "over.yaml", "link.yaml"])
def test_every_file_of_a_spec_counts(edited: str, made: list[int], spec: Path) -> None:
    """A change of an included file, of one that it includes, of an overlay or of what a link leads to."""
    at = spec.parent
    (at / "parts").mkdir()
    (at / "parts/base.yaml").write_text(f"include: [more.yaml]\n{SPEC.replace('rows.jsonl', '../rows')}")
    (at / "parts/more.yaml").write_text("kinds: [../kinds]\n")
    (at / "over.yaml").write_text("include: [link.yaml]\n")
    (at / "other.yaml").write_text("description: x\n")
    (at / "link.yaml").symlink_to("other.yaml")
    spec.write_text("schema: 1\ninclude: [parts/base.yaml]\nkinds: [kinds]\n")
    command = ["plan", "toy.yaml", "--overlay", "over.yaml"]
    assert [0, 0] == [main(command), main(command)]
    assert 2 == len(made)
    if edited == "link.yaml":
        (at / edited).unlink()
    (at / edited).write_text((at / edited).read_text() if (at / edited).exists() else "description: y\n")
    with (at / edited).open("a") as stream:
        stream.write("# edited\n")
    assert 0 == main(command)
    assert 3 == len(made)


HIDDEN: dict[str, tuple[Callable[[Path], object], Callable[[Path], object]]] = {
    "a folder of kinds that is a link": (
        lambda at: (
            shutil.copytree(at / "kinds", at / "other"),
            (at / "link").symlink_to("kinds"),
            (at / "toy.yaml").write_text(SPEC.replace("[kinds]", "[link]")),
        ),
        lambda at: ((at / "link").unlink(), (at / "link").symlink_to("other")),
    ),
    "an included file above a folder that is a link": (
        lambda at: (
            (at / "far/specs").mkdir(parents=True),
            (at / "far/base.yaml").write_text("description: x\n"),
            (at / "near").symlink_to("far/specs"),
            (at / "toy.yaml").write_text(SPEC + "include: [near/../base.yaml]\n"),
        ),
        lambda at: (at / "far/base.yaml").write_text("description: other\n"),
    ),
    "a link among the code that leads nowhere": (
        lambda at: (at / "kinds/toy/late.txt").symlink_to(at / "late.txt"),
        lambda at: (at / "late.txt").write_text("here\n"),
    ),
    "a folder among the kinds that becomes one": (
        lambda at: (at / "kinds/sft").mkdir(),
        lambda at: (at / "kinds/sft/kind.py").write_text("KIND = None\n"),
    ),
    "a file that is included under two names": (
        lambda at: (
            (at / "one.yaml").write_text("description: x\n"),
            (at / "two.yaml").symlink_to("one.yaml"),
            (at / "three.yaml").write_text("description: y\n"),
            (at / "toy.yaml").write_text(SPEC + "include: [one.yaml, two.yaml]\n"),
        ),
        lambda at: ((at / "two.yaml").unlink(), (at / "two.yaml").symlink_to("three.yaml")),
    ),
}


@pytest.mark.parametrize("what", HIDDEN)
def test_what_hides_behind_a_name(what: str, made: list[int], spec: Path) -> None:
    """Names that lead elsewhere, and places where something may appear, count for what they come to."""
    before, change = HIDDEN[what]
    before(spec.parent)
    assert [0, 0] == [main(["plan", "toy.yaml"]) for _ in range(2)]
    assert 2 == len(made)
    change(spec.parent)
    assert main(["plan", "toy.yaml"]) in (0, 1)
    assert 3 == len(made)


def test_checkpoints_count(made: list[int], spec: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """A stage that can be resumed, or no longer, is told as such, whatever else stays as it was."""
    kind = spec.parent / "kinds/toy/kind.py"
    kind.write_text(KIND.replace('libraries=("no-such-library",)', "resumable=True"))
    capsys.readouterr()
    main(["plan", "toy.yaml", "--json"])
    first = json.loads(capsys.readouterr().out)["stages"][0]
    work = Store.open(Path(".rlhfc")).work("first", first["key"])
    work.mkdir()
    state = work / "checkpoints/step-000003/state.bin"
    record = {"format": 3, "key": first["key"], "step": 3, "total": 9}
    record["files"] = [{"path": "state.bin", "size": 4}]
    steps = [
        lambda: state.parent.mkdir(parents=True),
        lambda: state.write_bytes(b"1234"),
        lambda: (state.parent / "COMPLETE.json").write_text(json.dumps(record)),
        lambda: os.truncate(state, 2),
    ]
    verdicts = []
    for step in steps:
        step()
        main(["plan", "toy.yaml", "--json"])
        verdicts.append(json.loads(capsys.readouterr().out)["stages"][0]["verdict"])
    assert ["run", "run", "resume", "run"] == verdicts


def test_a_pipe_is_not_remembered(made: list[int], spec: Path) -> None:
    """What comes through a pipe cannot be looked at again, so such a plan answers no later question."""
    os.mkfifo(spec.parent / "pipe")
    command = ["plan", "toy.yaml", "--overlay", "pipe"]
    for text in ("description: x\n", "description: y\n"):
        threading.Thread(target=(spec.parent / "pipe").write_text, args=(text,), daemon=True).start()
        assert 0 == main(command)
    assert 3 == len(made)


def test_a_link_to_another_file_system(made: list[int], spec: Path) -> None:
    """The file system of a file counts, not that of the link which leads to it."""
    (spec.parent / "rows/version.jsonl").symlink_to("/proc/version")
    for _ in range(2):
        assert 0 == main(["plan", "toy.yaml"])
    assert 3 == len(made)


def test_where_python_finds_modules_is_part_of_the_question(
    made: list[int], monkeypatch: pytest.MonkeyPatch
) -> None:
    """Another path may hold other versions of libraries."""
    monkeypatch.syspath_prepend("elsewhere")
    main(["plan", "toy.yaml"])
    assert 2 == len(made)


def test_git_variables_are_told_apart_and_not_kept(made: list[int], monkeypatch: pytest.MonkeyPatch) -> None:
    """They may decide which commit is found, and may hold a password."""
    for value, plans in (("hunter2", 2), ("hunter2", 2), ("hunter3", 3)):
        monkeypatch.setenv("GIT_CONFIG_VALUE_0", value)
        main(["plan", "toy.yaml"])
        assert plans == len(made)
    assert not any("hunter" in file.read_text() for file in Path(".rlhfc/plans").iterdir())


def test_the_oldest_plans_are_forgotten(made: list[int], monkeypatch: pytest.MonkeyPatch) -> None:
    """The folder does not grow with every value that was tried."""
    monkeypatch.setattr(memo, "KEPT", 3)
    for rate in range(1, 5):
        main(["plan", "toy.yaml", "--set", f"first.rate=0.{rate}"])
    assert 3 == len(list(Path(".rlhfc/plans").iterdir()))
    main(["plan", "toy.yaml", "--set", "first.rate=0.4"])
    assert 5 == len(made)
    main(["plan", "toy.yaml"])
    assert 6 == len(made)


def test_a_damaged_memo_answers_nothing(made: list[int]) -> None:
    """A plan whose kept text has changed by one letter is made anew."""
    (file,) = Path(".rlhfc/plans").iterdir()
    text = file.read_bytes()
    file.write_bytes(text.replace(b'"cached"', b'"cachet"').replace(b'"run"', b'"ran"'))
    assert text != file.read_bytes()
    assert 0 == main(["plan", "toy.yaml"])
    assert 2 == len(made)
