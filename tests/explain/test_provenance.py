"""The commit of a spec: what it is, when it is dirty, and what makes a remembered plan old."""

from __future__ import annotations

import json
import os

import pytest

from rlhfc.cli import afresh
from rlhfc.cli.main import main
from rlhfc.observe import observed
from rlhfc.plan import memo
from rlhfc.provenance import Commit, commit_of
from rlhfc.store.store import Store

SPEC = """\
schema: 1
stages:
  sft:
    kind: sft
    model: {hub: owner/actor}
    data: {path: rows}
    global_batch_size: 8
"""


def test_commit_and_branch(git, tmp_path):
    """A committed spec is clean whatever happens beside it; an edit of one of its files is dirt."""
    spec, base, other = (tmp_path / name for name in ("spec.yaml", "base.yaml", "other.txt"))
    for path in (spec, base, other):
        path.write_text("a: 1\n")
    git("add", ".")
    git("commit", "-q", "-m", "one")
    head = git("rev-parse", "HEAD")
    other.write_text("b\n")
    assert Commit(head, False, "main") == commit_of([spec, base])
    base.write_text("a: 2\n")
    assert Commit(head, True, "main") == commit_of([spec, base])
    assert Commit(head, False, "main") == commit_of([spec])
    git("add", "base.yaml")
    assert Commit(head, True, "main") == commit_of([spec, base])
    git("checkout", "-q", "--detach")
    assert Commit(head, False, None) == commit_of([spec])


@pytest.mark.parametrize("ignored", [False, True], ids=["untracked", "ignored"])
def test_a_spec_that_is_in_no_commit_is_dirty(ignored, git, tmp_path):
    """What the commit does not hold cannot be had back from it."""
    (tmp_path / ".gitignore").write_text("spec.yaml\n" if ignored else "\n")
    git("add", ".gitignore")
    git("commit", "-q", "-m", "one")
    spec = tmp_path / "spec.yaml"
    spec.write_text("a: 1\n")
    assert Commit(git("rev-parse", "HEAD"), True, "main") == commit_of([spec])


def test_there_may_be_no_commit(git, tmp_path, monkeypatch):
    """Before the first commit, without git and outside of a repository there is none, and no error."""
    spec = tmp_path / "spec.yaml"
    spec.write_text("a: 1\n")
    assert None is commit_of([spec])
    git("add", ".")
    git("commit", "-q", "-m", "one")
    monkeypatch.setenv("PATH", str(tmp_path / "nothing"))
    assert None is commit_of([spec])
    monkeypatch.undo()
    assert None is commit_of([tmp_path.parent / "spec.yaml"])


@pytest.mark.parametrize("packed", [False, True], ids=["loose", "packed"])
@pytest.mark.parametrize("worktree", [False, True], ids=["repository", "worktree"])
def test_a_commit_changes_something_that_was_looked_at(packed, worktree, git, tmp_path, monkeypatch):
    """After a commit, wherever git keeps it, at least one of the paths that were observed is another."""
    (tmp_path / "spec.yaml").write_text("a: 1\n")
    git("add", ".")
    git("commit", "-q", "-m", "one")
    spec = tmp_path / "spec.yaml"
    if worktree:
        git("worktree", "add", "-q", "-b", "side", "beside")
        monkeypatch.chdir(tmp_path / "beside")
        spec = tmp_path / "beside" / "spec.yaml"
    if packed:
        git("pack-refs", "--all")

    def stamps(paths):
        found = {path: os.stat(path) for path in paths if os.path.isfile(path)}  # noqa: PTH113, PTH116
        return {path: (status.st_mtime_ns, status.st_size, status.st_ino) for path, status in found.items()}

    with observed() as seen:
        commit_of([spec])
    before = stamps(seen.paths)
    git("commit", "-q", "--allow-empty", "-m", "two")
    assert before != stamps(seen.paths)


def test_a_plan_names_the_commit(git, tmp_path, capsys, monkeypatch):
    """The heading has the commit and whether the spec was edited; a new commit is seen at once."""
    (tmp_path / "rows").mkdir()
    (tmp_path / "rows" / "a.jsonl").write_text("{}\n")
    spec = tmp_path / "spec.yaml"
    spec.write_text(SPEC)
    git("add", ".")
    git("commit", "-q", "-m", "one")
    Store.create(tmp_path / ".rlhfc")
    monkeypatch.setattr(memo, "RACY_NS", -(10**15))  # so that the plan is remembered

    made, make = [], afresh.plan_afresh
    monkeypatch.setattr(afresh, "plan_afresh", lambda *given: made.append(1) or make(*given))

    def heading():
        assert 0 == main(["plan", "spec.yaml"])
        return capsys.readouterr().out.split(" · store ")[0]

    assert f"spec · spec.yaml · spec {git('rev-parse', 'HEAD')[:7]}" == heading()
    heading()
    heading()
    assert 1 == len(made), "a plan that is known already was made anew"
    git("commit", "-q", "--allow-empty", "-m", "two")
    assert f"spec · spec.yaml · spec {git('rev-parse', 'HEAD')[:7]}" == heading()
    spec.write_text(SPEC + "# mine\n")
    assert f"spec · spec.yaml · spec {git('rev-parse', 'HEAD')[:7]} (dirty)" == heading()
    main(["plan", "spec.yaml", "--json"])
    commit = {"id": git("rev-parse", "HEAD"), "dirty": True, "branch": "main"}
    assert commit == json.loads(capsys.readouterr().out)["commit"]


def test_a_plan_without_an_answer_of_git_is_not_remembered(git, tmp_path, capsys, monkeypatch):
    """A git that failed once must not cost every later plan its commit."""
    (tmp_path / "rows").mkdir()
    (tmp_path / "rows" / "a.jsonl").write_text("{}\n")
    (tmp_path / "spec.yaml").write_text(SPEC)
    git("add", ".")
    git("commit", "-q", "-m", "one")
    Store.create(tmp_path / ".rlhfc")
    monkeypatch.setattr(memo, "RACY_NS", -(10**15))  # so that a plan may be remembered

    def commit():
        assert 0 == main(["plan", "spec.yaml", "--json"])
        return json.loads(capsys.readouterr().out)["commit"]

    with monkeypatch.context() as patched:
        patched.setattr("rlhfc.git.SECONDS", 0.0)
        assert None is commit()
    assert git("rev-parse", "HEAD") == commit()["id"]
