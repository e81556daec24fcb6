"""A spec from a stranger runs no code: what it leads to must lie below a folder that the user trusts."""

from __future__ import annotations

import os
import stat
from pathlib import Path

import pytest

from rlhfc.cli.complete import candidates
from rlhfc.cli.main import main
from rlhfc.plan import memo
from rlhfc.store.store import Store
from rlhfc.trust import Trust, read_trusted

SPEC = """\
schema: 1
kinds: [./kinds]
stages:
  first: {kind: toy, source: {path: rows.jsonl}}
"""
KIND = """\
import os
os.mkdir(os.path.join(os.path.dirname(__file__), "ran"))
from rlhfc.kind import Input, Kind, StageParams, semantic

class ToyParams(StageParams):
    source: Input = semantic()

KIND = Kind("toy", 1, ToyParams, {"source": "data"}, {"out": "data"})
"""
BUILT_IN = """\
schema: 1
stages:
  split:
    kind: data_split
    tokenizer: {path: model}
    sources: [{data: {path: rows.jsonl}, columns: {prompt: p, response: r}}]
    max_tokens: 8
    max_prompt_tokens: 4
"""
SFT = """\
  sft: {kind: sft, model: {path: model}, data: split.sft, learning_rate: 0.1, global_batch_size: 1, %s}
"""
JUDGED = """\
schema: 1
stages:
  eval:
    kind: evaluate
    baseline: {path: model}
    candidate: {path: model}
    reward_model: {path: model}
    prompts: {path: model}
    judges: [{name: rule, code: {path: judge.py}}]
"""


@pytest.fixture
def stranger(tmp_path, monkeypatch) -> Path:
    """A folder from somewhere, with a kind that leaves a trace when it is imported, and no trust."""
    monkeypatch.delenv("RLHFC_TRUST", raising=False)
    monkeypatch.setenv("XDG_CONFIG_HOME", str(tmp_path / "config"))
    folder = tmp_path / "from stranger"
    (folder / "kinds" / "toy").mkdir(parents=True)
    (folder / "kinds/toy/kind.py").write_text(KIND)
    (folder / "kinds/toy/main.py").write_text("import rlhfc.stages.common\n")
    (folder / "kinds/toy/launch.argv.j2").write_text('{% include "common/python.argv.j2" %}')
    (folder / "model").mkdir()
    (folder / "model" / "config.json").write_text("{}")
    (folder / "rows.jsonl").write_text('{"p": "a", "r": "b"}\n')
    (folder / "judge.py").write_text("def score(prompt, response):\n    return 0.0\n")
    (folder / "spec.yaml").write_text(SPEC)
    monkeypatch.chdir(folder)
    return folder


def ran(folder: Path) -> bool:
    """Whether the kind's code has run."""
    return (folder / "kinds/toy/ran").exists()


def said(capsys) -> str:
    """What stands on stderr."""
    return capsys.readouterr().err


def refused_until_trusted(command: str, told: str, capsys) -> None:
    """A command on the spec says why it stops, and goes on once its folder is trusted."""
    assert 1 == main([command, "spec.yaml"])
    assert told in said(capsys)
    main(["trust", "."])
    assert 0 == main([command, "spec.yaml"])


@pytest.mark.parametrize(
    "command",
    [
        ("plan", "spec.yaml"),
        ("run", "spec.yaml"),
        ("config", "spec.yaml"),
        ("graph", "spec.yaml", "--no-state"),
        ("explain", "spec.yaml", "first"),
        ("status", "spec.yaml"),
        ("diff", "spec.yaml", "spec.yaml"),
    ],
    ids=lambda words: words[0],
)
def test_no_command_runs_the_kind_of_a_stranger(command, stranger, capsys):
    """Every command that reads the spec stops at the place that names the folder, and says how to go on."""
    assert 1 == main(command)
    told = said(capsys)
    assert "spec.yaml:2:9: error: `kinds` holds code, and nobody has said that it may run" in told
    assert f"hint: read it, then `rlhfc trust '{stranger / 'kinds'}'`" in told
    assert not ran(stranger)


def test_the_message_is_the_only_one(stranger, capsys):
    """Stages of a kind that may not run are not blamed for it as well."""
    main(["plan", "spec.yaml"])
    assert 1 == said(capsys).count("error:")


def test_completion_and_schemas_import_no_kind(stranger):
    """Completion knows the names of the stages, and schemas are made, without the stranger's code."""
    assert ["first"] == candidates(["explain", "spec.yaml", ""])
    assert 0 == main(["schema", "--output", "made"])
    assert not ran(stranger)


def test_trusted_folder_runs(stranger, capsys):
    """After `rlhfc trust` the same command works; the list is the user's alone."""
    assert 0 == main(["trust", "kinds"])
    assert f"trusted: {stranger / 'kinds'}\n" == capsys.readouterr().out
    assert 0 == main(["plan", "spec.yaml"])
    assert ran(stranger)
    file = Path(os.environ["XDG_CONFIG_HOME"], "rlhfc", "trusted")
    assert (f"{stranger / 'kinds'}\n", 0o600) == (file.read_text(), stat.S_IMODE(file.stat().st_mode))


def test_list_and_remove(stranger, capsys, monkeypatch):
    """The list shows both origins; a folder that is removed is trusted no longer, even when it is gone."""
    monkeypatch.setenv("RLHFC_TRUST", "/of/the/container")
    main(["trust", "kinds", "model"])
    main(["trust", "kinds"])
    (stranger / "model" / "config.json").unlink()
    (stranger / "model").rmdir()
    assert 0 == main(["trust", "--remove", "model"])
    assert 0 == main(["trust", "--list"])
    assert [
        f"trusted: {stranger / 'kinds'}",
        f"trusted: {stranger / 'model'}",
        f"trusted already: {stranger / 'kinds'}",
        f"no longer trusted: {stranger / 'model'}",
        f"{stranger / 'kinds'}",
        "/of/the/container (`RLHFC_TRUST`)",
    ] == capsys.readouterr().out.splitlines()
    assert 1 == main(["trust", "--remove", "model"])
    assert "is not on the list" in said(capsys)


@pytest.mark.parametrize(
    ("words", "told"),
    [
        (["trust"], "no folder is named"),
        (["trust", "nowhere"], "is no folder"),
        (["trust", "--list", "kinds"], "`--list` goes alone"),
    ],
)
def test_mistakes_of_the_command(words, told, stranger, capsys):
    """Nothing is written for a wrong call."""
    assert 1 == main(words)
    assert told in said(capsys)
    assert [] == read_trusted(Path(os.environ["XDG_CONFIG_HOME"], "rlhfc", "trusted"))


def test_variable_trusts_as_the_list_does(stranger, monkeypatch, capsys):
    """`RLHFC_TRUST` holds absolute paths; a relative one would depend on where one stands."""
    monkeypatch.setenv("RLHFC_TRUST", f"/elsewhere{os.pathsep}{stranger}")
    assert 0 == main(["plan", "spec.yaml"])
    monkeypatch.setenv("RLHFC_TRUST", "kinds")
    assert 1 == main(["plan", "spec.yaml"])
    assert "`RLHFC_TRUST` names `kinds`, which is relative" in said(capsys)


@pytest.mark.parametrize("part", ["toy", "toy/kind.py", "toy/main.py", "toy/launch.argv.j2", "toy/helper.py"])
def test_link_inside_a_trusted_folder_lends_no_trust(part, stranger, tmp_path, capsys):
    """Code is trusted where it really lies."""
    (stranger / "kinds/toy/kind.py").write_text(KIND.replace("os.mkdir", "(lambda _: None)"))
    (stranger / "kinds/toy/helper.py").write_text("")
    (stranger / "kinds/toy/main.py").write_text("import toy.helper\n")
    main(["trust", "kinds"])
    assert 0 == main(["plan", "spec.yaml"])
    there = stranger / "kinds" / part
    there.rename(tmp_path / "outside")
    there.symlink_to(tmp_path / "outside")
    capsys.readouterr()
    assert 1 == main(["plan", "spec.yaml", "--rehash"])
    assert "holds code, and nobody has said that it may run" in said(capsys)


def test_folder_beside_a_trusted_one_is_not_trusted(stranger):
    """Names are compared by whole steps."""
    trust = Trust(stranger / "none", [stranger / "kin"])
    assert (False, True) == (trust.covers(stranger / "kinds"), trust.covers(stranger / "kin" / "a.py"))


@pytest.mark.parametrize(("which", "mode"), [("file", 0o620), ("file", 0o602), ("folder", 0o777)])
def test_list_that_others_may_write_counts_for_nothing(which, mode, stranger, capsys):
    """Else another user of the machine could trust in one's name."""
    main(["trust", "kinds"])
    file = Path(os.environ["XDG_CONFIG_HOME"], "rlhfc", "trusted")
    (file if which == "file" else file.parent).chmod(mode)
    for command in (["plan", "spec.yaml"], ["trust", "--list"], ["trust", "kinds"]):
        assert 1 == main(command)
        assert "can be written by others, so nothing is trusted" in said(capsys)
    assert not ran(stranger)


def test_spec_without_code_needs_no_list(stranger, capsys):
    """A list that does not count is no matter where no code is led to."""
    main(["trust", "kinds"])
    Path(os.environ["XDG_CONFIG_HOME"], "rlhfc", "trusted").chmod(0o666)
    (stranger / "spec.yaml").write_text(BUILT_IN)
    assert 0 == main(["config", "spec.yaml"])


def test_remembered_plan_does_not_outlive_the_trust(stranger, capsys, monkeypatch):
    """A plan that is known is not shown when its code may no longer run."""
    monkeypatch.setattr(memo, "RACY_NS", -(10**12))  # also files that are as young as these count as settled
    Store.create(stranger / ".rlhfc")
    main(["trust", "."])
    assert 0 == main(["plan", "spec.yaml"])
    (known,) = (stranger / ".rlhfc" / "plans").iterdir()
    before = known.stat().st_ino
    assert 0 == main(["plan", "spec.yaml"])
    assert before == known.stat().st_ino, "the plan was made again, so nothing is remembered"
    main(["trust", "--remove", "."])
    capsys.readouterr()
    assert 1 == main(["plan", "spec.yaml"])
    assert "nobody has said that it may run" in said(capsys)


def test_judge_of_a_stranger_does_not_run(stranger, capsys):
    """A judge's file is code that runs inside the stage."""
    (stranger / "spec.yaml").write_text(JUDGED)
    assert 1 == main(["plan", "spec.yaml"])
    told = said(capsys)
    assert "spec.yaml:9:40: error: eval.judges.0.code: `judge.py` holds code" in told
    assert f"hint: read it, then `rlhfc trust '{stranger}'`" in told
    main(["trust", "."])
    main(["plan", "spec.yaml"])
    assert "holds code" not in said(capsys)


def test_judge_of_the_hub_does_not_run(stranger, capsys):
    """What is downloaded has been read by nobody here, whatever is trusted."""
    main(["trust", "."])
    (stranger / "spec.yaml").write_text(JUDGED.replace("path: judge.py", "hub: a/b, file: judge.py"))
    assert 1 == main(["plan", "spec.yaml"])
    assert "is code of the hub, which nobody here has read" in said(capsys)


@pytest.mark.parametrize(
    "name", ["LD_PRELOAD", "PYTHONUSERBASE", "CXX", "CUDA_HOME", "HF_MODULES_CACHE", "LD_AUDIT"]
)
def test_variable_that_may_bring_code_needs_trust(name, stranger, capsys):
    """A loader, an interpreter or a compiler that is told where to look runs what lies there."""
    (stranger / "spec.yaml").write_text(BUILT_IN + SFT % f"environment: {{{name}: /x}}")
    told = f"sft.environment: `{name}` may bring code into a launch, and nobody trusts the author"
    refused_until_trusted("config", told, capsys)


@pytest.mark.parametrize("name", ["HF_TOKEN", "WANDB_API_KEY", "NCCL_DEBUG", "PYTORCH_CUDA_ALLOC_CONF"])
def test_variable_without_power_needs_none(name, stranger):
    """Secrets and switches may stand in anybody's spec."""
    (stranger / "spec.yaml").write_text(BUILT_IN + SFT % f"environment: {{{name}: x}}")
    assert 0 == main(["config", "spec.yaml"])


def test_variable_that_the_user_types_needs_none(stranger):
    """What stands on the command line is the user's own."""
    (stranger / "spec.yaml").write_text(BUILT_IN + SFT % "seed: 1")
    assert 0 == main(["config", "spec.yaml", "--set", "sft.environment={LD_PRELOAD: /x}"])


def test_options_of_a_saved_plan_are_its_authors(stranger, capsys):
    """A saved plan may come from a stranger too: its `--set` is nothing that this user has typed."""
    (stranger / "spec.yaml").write_text(BUILT_IN + SFT % "seed: 1")
    option = ["--set", "sft.environment={LD_PRELOAD: /x}"]
    assert 0 == main(["plan", "spec.yaml", *option, "-o", "plan.json"])
    capsys.readouterr()
    assert 1 == main(["run", "plan.json"])
    assert "`LD_PRELOAD` may bring code into a launch" in said(capsys)


@pytest.mark.parametrize(
    "entry", ["tensorboard", "wandb", "compile", "autotuning", "nebula", "no_such_entry"]
)
def test_deepspeed_entry_with_power_needs_trust(entry, stranger, capsys):
    """Entries that write anywhere, connect or import need an author who is trusted."""
    (stranger / "spec.yaml").write_text(BUILT_IN + SFT % f"deepspeed: {{{entry}: {{enabled: true}}}}")
    told = f"`{entry}` of the DeepSpeed config may run code or write files anywhere"
    refused_until_trusted("plan", told, capsys)


def test_deepspeed_entry_without_power_needs_none(stranger):
    """Tuning of ZeRO may stand in anybody's spec."""
    (stranger / "spec.yaml").write_text(
        BUILT_IN + SFT % "deepspeed: {zero_optimization: {reduce_bucket_size: 9}}"
    )
    assert 0 == main(["plan", "spec.yaml"])


def test_init_needs_no_trust(stranger, capsys):
    """What `rlhfc init` writes leads to no code, and nothing is added to the list."""
    assert 0 == main(["init", "fresh", "--model", "model"])
    assert 0 == main(["config", "fresh/pipeline.yaml"])
    assert not Path(os.environ["XDG_CONFIG_HOME"]).exists()


@pytest.mark.parametrize("name", ["TORCH_FORCE_WEIGHTS_ONLY_LOAD", "TORCH_FORCE_NO_WEIGHTS_ONLY_LOAD"])
def test_weights_only_cannot_be_switched_off(name, stranger, capsys):
    """Not even a trusted spec sets how checkpoints are loaded."""
    main(["trust", "."])
    (stranger / "spec.yaml").write_text(BUILT_IN + SFT % f"environment: {{{name}: '0'}}")
    assert 1 == main(["config", "spec.yaml"])
    assert f"`{name}` is set by rlhfc or the launcher" in said(capsys)
