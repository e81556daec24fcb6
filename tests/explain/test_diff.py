"""``rlhfc diff``: two runs, two specs, a spec and a run."""

from __future__ import annotations

import json

import pytest
from story import SPEC, Story

from rlhfc.store.ledger import Ledger


def runs(story: Story) -> list[str]:
    """Identifiers of the runs, oldest first."""
    entries = map(json.loads, (story.folder / ".rlhfc" / "ledger.jsonl").read_text().splitlines())
    return [line["entry"]["run"] for line in entries if line["entry"]["event"] == "run"]


def test_two_runs(story: Story) -> None:
    """Settings with lines, digests of inputs, code, outputs with sizes, figures with their difference."""
    story.run()
    story.edit("value: 1,", "value: 100,")
    story.edit("log_every: 5", "log_every: 6")
    file = story.folder / "kinds" / "toy" / "main.py"
    file.write_text(file.read_text() + "NEW = 1\n")
    story.run()
    assert [
        "RUN0 → RUN1",
        "spec",
        "  first.value       1 → 100  pipe.yaml:5",
        "  first.log_every   5 → 6    pipe.yaml:3 (defaults)",
        "  second.log_every  5 → 6    pipe.yaml:3 (defaults)",
        "inputs",
        "  second.left  DIGEST0 → DIGEST1  pipe.yaml:8",
        "code",
        "  first: toy/main.py   changed",
        "  second: toy/main.py  changed",
        "outputs",
        "  first.thing   differs  3 B → 5 B",
        "  second.thing  differs  6 B → 8 B",
        "figures",
        "  first.value  1 → 100  +99",
    ] == story.lines("diff", *runs(story))


def test_stages_that_came_and_went(story: Story) -> None:
    """A stage that only one of the runs has is told with its kind; one that is as it was is identical."""
    story.run()
    text = SPEC.split("  second:")[0]
    story.spec.write_text(text + "  third: {kind: toy, left: first.thing}\n")
    story.run()
    before, after = runs(story)
    assert [
        f"{story.named(before)} → {story.named(after)}",
        "spec",
        "  second  removed (toy)",
        "  third   added (toy)",
        "outputs",
        "  first.thing  identical  3 B",
    ] == story.lines("diff", before, after)


def test_the_environment(story: Story) -> None:
    """Versions that differ between runs are told once."""
    story.run()
    story.run("--set", "first.value=3")
    before, after = runs(story)
    ledger = story.folder / ".rlhfc" / "ledger.jsonl"
    entries = Ledger(ledger, print).read()
    ledger.unlink()
    for entry in entries:
        if entry["event"] == "run" and entry["run"] == before:
            entry["python"] = "3.10.1"
        rest = {name: value for name, value in entry.items() if name not in ("event", "time")}
        Ledger(ledger, print).append(entry["event"], **rest)
    now = next(entry["python"] for entry in entries if entry.get("run") == after)
    lines = story.lines("diff", before, after)
    assert ["environment", f"  python  3.10.1 → {now}"] == lines[5:7]


def test_a_spec_and_a_run(story: Story) -> None:
    """They are compared in the settings, which are what both know; a prefix is enough to name a run."""
    story.run()
    story.edit("value: 2", "value: 3")
    story.edit("left: first.thing", "description: what only people read\n    left: first.thing")
    (run,) = runs(story)
    assert [
        f"{story.named(run)} → pipe.yaml",
        "spec",
        "  second.value  2 → 3  pipe.yaml:10 (was pipe.yaml:9)",
    ] == story.lines("diff", run[:-2], "pipe.yaml")


def test_two_specs(story: Story) -> None:
    """Labels and references are told as well; the status is 2 only where that is asked for."""
    story.spec.with_name("other.yaml").write_text(
        SPEC.replace("left: first.thing", "right: first.thing\n    description: mine").replace(
            "value: 2", "value: 2  # two"
        )
    )
    expected = [
        "pipe.yaml → other.yaml",
        "spec",
        '  second.description  "" → mine  other.yaml:9',
        "inputs",
        "  second.right  none → first.thing  other.yaml:8",
        "  second.left   first.thing → none  default (was pipe.yaml:8)",
    ]
    found = story.lines("diff", "pipe.yaml", "other.yaml", "--detailed-exitcode", status=2)
    assert expected == found
    assert expected == story.lines("diff", "pipe.yaml", "other.yaml")
    assert ["pipe.yaml → pipe.yaml", "no difference"] == story.lines(
        "diff", "pipe.yaml", "pipe.yaml", "--detailed-exitcode"
    )


def test_a_revision(git, story: Story) -> None:
    """A spec at a revision is read from git's objects: the file may be another by now, or gone."""
    git("add", ".")
    git("commit", "-q", "-m", "one")
    story.edit("value: 2", "value: 3")
    git("commit", "-q", "-a", "-m", "two")
    story.edit("value: 3", "value: 4")
    assert [
        "main~1:pipe.yaml → pipe.yaml",
        "spec",
        "  second.value  2 → 4  pipe.yaml:9",
    ] == story.lines("diff", "main~1:pipe.yaml", "pipe.yaml")
    story.spec.unlink()
    assert [
        "HEAD~1:./pipe.yaml → HEAD:pipe.yaml",
        "spec",
        "  second.value  2 → 3  pipe.yaml:9",
    ] == story.lines("diff", "HEAD~1:./pipe.yaml", "HEAD:pipe.yaml")


def test_paths_of_a_revision(git, story: Story, monkeypatch: pytest.MonkeyPatch) -> None:
    """As git has it: from the top of the repository, or from here with `./`."""
    (story.folder / "below").mkdir()
    (story.folder / "below" / "pipe.yaml").write_text(SPEC.replace("kinds: [kinds]", "kinds: [../kinds]"))
    git("add", ".")
    git("commit", "-q", "-m", "one")
    story.edit("value: 2", "value: 3")
    git("commit", "-q", "-a", "-m", "two")
    monkeypatch.chdir(story.folder / "below")
    assert "no difference" == story.lines("diff", "HEAD:./pipe.yaml", "HEAD~1:./pipe.yaml")[-1]
    assert [
        "HEAD:./pipe.yaml → HEAD:pipe.yaml",
        "spec",
        "  second.value  2 → 3  pipe.yaml:9",
    ] == story.lines("diff", "HEAD:./pipe.yaml", "HEAD:pipe.yaml")


def test_files_and_links_of_a_revision(git, story: Story) -> None:
    """What is included is as the commit has it: links of the commit are followed, later ones are not."""
    story.spec.write_text("schema: 1\ninclude: [base.yaml, more.yaml]\n")
    (story.folder / "real.yaml").write_text(SPEC)
    (story.folder / "base.yaml").symlink_to("real.yaml")
    (story.folder / "more.yaml").write_text("stages: {second: {value: 7}}\n")
    git("add", ".")
    git("commit", "-q", "-m", "one")
    (story.folder / "base.yaml").unlink()
    (story.folder / "more.yaml").unlink()
    (story.folder / "real.yaml").rename(story.folder / "base.yaml")
    (story.folder / "more.yaml").symlink_to("base.yaml")
    assert [
        "HEAD:pipe.yaml → pipe.yaml",
        "spec",
        "  second.value  7 → 2  base.yaml:9 (was more.yaml:1)",
    ] == story.lines("diff", "HEAD:pipe.yaml", "pipe.yaml")


def test_mistakes_in_a_revision(git, story: Story) -> None:
    """What is wrong with a spec of the past is told with its place there."""
    story.spec.write_text(SPEC.replace("value: 2", "valeu: 2"))
    git("add", ".")
    git("commit", "-q", "-m", "one")
    story.spec.write_text("schema: 1\n")
    assert (
        "main:pipe.yaml:9:5: error: second: unknown field `valeu`\n"
        "    9 |     valeu: 2\n"
        "      |     ^^^^^\n"
        "hint: did you mean `value`?\n"
    ) == story.refused("diff", "main:pipe.yaml", "main:pipe.yaml")


@pytest.mark.parametrize(
    ("argument", "expected"),
    [
        ("main:none.yaml", "error: cannot read `none.yaml`: not in `main`\n"),
        ("mian:pipe.yaml", "error: git knows no revision `mian`\nhint: see `git log`\n"),
        (
            "2031",
            "error: `2031` is neither a run nor a spec\n"
            "hint: see `rlhfc history`; a spec is a file, or `REVISION:PATH` in git\n",
        ),
    ],
)
def test_what_is_not_there(argument: str, expected: str, git, story: Story) -> None:
    """A name that leads nowhere says so."""
    git("add", ".")
    git("commit", "-q", "-m", "one")
    assert expected == story.refused("diff", argument, "pipe.yaml")


def test_no_repository(story: Story, monkeypatch: pytest.MonkeyPatch) -> None:
    """A revision without a repository is git's to refuse."""
    monkeypatch.setenv("GIT_CEILING_DIRECTORIES", str(story.folder.parent))
    assert (
        "error: cannot look up `main:pipe.yaml`: fatal: not a git repository (or any of the parent "
        "directories): .git\nhint: `REVISION:PATH` is a spec as a commit has it\n"
    ) == story.refused("diff", "main:pipe.yaml", "pipe.yaml")


def test_the_last_runs(story: Story) -> None:
    """They can be named by counting from the newest; beyond the oldest there is none."""
    story.run()
    story.run("--set", "second.value=3")
    before, after = runs(story)
    expected = f"{story.named(before)} → {story.named(after)}"
    assert expected == story.lines("diff", "last~1", "last")[0]
    assert (
        "error: there is no `last~2`: the store knows only 2 runs\nhint: see `rlhfc history`\n"
    ) == story.refused("diff", "last~2", "last")


def test_both_sides_are_told_at_once(story: Story) -> None:
    """Each side that is not there is told, in a store without a run as well; one mistake is told once."""
    assert (
        "error: there is no `last~1`: the store knows no run yet\nhint: see `rlhfc history`\n\n"
        "error: `2031` is neither a run nor a spec\n"
        "hint: see `rlhfc history`; a spec is a file, or `REVISION:PATH` in git\n\n2 errors\n"
    ) == story.refused("diff", "last~1", "2031")
    assert (
        "error: there is no `last`: the store knows no run yet\nhint: see `rlhfc history`\n"
    ) == story.refused("diff", "last", "last")


def test_several_runs(story: Story) -> None:
    """A beginning that two runs share names neither."""
    story.run()
    story.run("--set", "first.value=3")
    first, second = runs(story)
    assert f"error: `2` may be `{first}`, `{second}`\nhint: give more of it\n" == story.refused(
        "diff", "2", "pipe.yaml"
    )


def test_as_json(story: Story) -> None:
    """The same facts as plain values."""
    story.run()
    story.edit("value: 2", "value: 3")
    story.run()
    document = json.loads(story.type("diff", *runs(story), "--json"))
    first, second = document["stages"]
    assert (True, [("first", [True]), ("second", [False])]) == (
        document["different"],
        [(stage["stage"], [port["identical"] for port in stage["outputs"]]) for stage in (first, second)],
    )
    (port,) = second["outputs"]
    assert ([{"name": "value", "before": 2, "after": 3}], 6, 6) == (
        second["figures"],
        port["before"]["size"],
        port["after"]["size"],
    )
