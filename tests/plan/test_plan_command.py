"""``rlhfc plan`` as a command: status, output, and what it leaves alone."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import pytest
from toy import SPEC

from rlhfc.cli.main import main
from rlhfc.compile import digests
from rlhfc.plan import memo
from rlhfc.store.store import Store

SEVEN = """\
schema: 1
stages:
  split:
    kind: data_split
    tokenizer: {hub: meta-llama/Llama-2-7b-hf}
    sources: [{data: {hub: Dahoas/rm-static}, columns: {prompt: prompt, chosen: chosen, rejected: rejected}}]
  sft:
    {kind: sft, device: gpu, ranks: 8, zero_stage: 3, model: {hub: meta-llama/Llama-2-7b-hf}, data: split.sft}
  rm: {kind: reward, device: gpu, ranks: 8, model: sft.model, data: split.reward}
  engines:
    {kind: engine_init, device: gpu, actor_model: sft.model, reward_model: rm.model, prompts: split.prompts}
  ppo: {kind: ppo, device: gpu, engines: engines.engines, prompts: split.prompts}
  score:
    kind: evaluate
    baseline: sft.model
    candidate: ppo.actor
    reward_model: rm.model
    prompts: split.heldout
  card: {kind: export, model: ppo.actor, evaluation: score.report}
"""
FORBIDDEN = [
    "torch",
    "transformers",
    "datasets",
    "deepspeed",
    "huggingface_hub",
    "networkx",
    "numpy",
    "peft",
    "tokenizers",
]


def files(folder: Path) -> list[str]:
    """Every file below a folder."""
    return sorted(path.relative_to(folder).as_posix() for path in folder.rglob("*") if path.is_file())


def test_the_text(spec: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """A plan goes to stdout, warnings and nothing else to stderr, and nothing is written to disk."""
    before = files(spec.parent)
    assert 0 == main(["plan", "toy.yaml"])
    out, err = capsys.readouterr()
    first, *rest = out.splitlines()
    assert first.startswith("toy · toy.yaml · store .rlhfc · ")
    assert [
        "",
        "  +  first   run  never run",
        "  +  second  run  never run (after first)",
        "",
        "Plan: 2 to run",
        "hint: `no-such-library` is not installed here: keys are known where the stages can run",
    ] == rest
    assert ("", before) == (err, files(spec.parent))


def test_statuses(spec: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """With --detailed-exitcode 2 means changes; a mistake is 1 with or without it."""
    assert 2 == main(["plan", "toy.yaml", "--detailed-exitcode"])
    spec.write_text(SPEC.replace("rows.jsonl", "gone.jsonl"))
    assert 1 == main(["plan", "toy.yaml", "--detailed-exitcode"])
    assert "error: first.source: `" in capsys.readouterr().err


def test_json_and_show(spec: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """The same facts as JSON, and the launches of the stages that were named."""
    main(["plan", "toy.yaml", "--json", "--show", "second", "--set", "second.rate=0.5"])
    document = json.loads(capsys.readouterr().out)
    assert ["run", "run"] == [stage["verdict"] for stage in document["stages"]]
    first, second = document["stages"]
    assert "rendered" not in first
    assert 0.5 == second["rendered"]["config"]["params"]["rate"]
    main(["plan", "toy.yaml", "--show"])
    out = capsys.readouterr().out
    assert all(f"\n{stage}: command\n" in out for stage in ("first", "second"))


@pytest.mark.parametrize("option", ["--show", "--force", "--target", "--from", "--until"])
def test_names_of_stages(option: str, spec: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """A stage that is not there is told with the nearest name."""
    assert 1 == main(["plan", "toy.yaml", option, "secnd"])
    assert (
        f"error: `{option} secnd` names no stage\nhint: did you mean `second`?\n" == capsys.readouterr().err
    )


def test_the_stat_cache_is_all_that_is_written(spec: Path) -> None:
    """Into a store that exists, plan writes its disposable cache, and nothing else."""
    Store.create(spec.parent / ".rlhfc")
    before = files(spec.parent)
    main(["plan", "toy.yaml"])
    assert {".rlhfc/stat-cache.json"} == set(files(spec.parent)) - set(before)


def test_nothing_heavy_is_imported(spec: Path) -> None:
    """Seven stages with every config shown, without GPU and hub: no training library is loaded."""
    spec.write_text(SEVEN)
    script = (
        "import sys; from rlhfc.cli.main import main; "
        "status = main(['plan', 'toy.yaml', '--show', '--detailed-exitcode']); "
        f"print(status, sorted(set(sys.modules) & set({FORBIDDEN!r})))"
    )
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=True)
    *shown, last = done.stdout.splitlines()
    assert "2 []" == last
    assert 4 == sum(line.startswith("ppo: DeepSpeed config of ") for line in shown)
    assert "Plan: 7 to run" in shown
    assert "" == done.stderr


def test_large_files_of_a_network_are_named(
    spec: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    """A file that is believed although its time stamps prove nothing is told; --rehash reads it."""
    monkeypatch.setattr(digests, "SMALL", 1_000_000)
    monkeypatch.setattr(digests, "RACY_NS", -(10**15))
    defaults = {"rehash": False, "type_of": lambda _: "nfs"}
    monkeypatch.setattr(digests.CachedDigester.__init__, "__kwdefaults__", defaults)
    monkeypatch.setattr(memo, "file_system", lambda _: "nfs")
    Store.create(spec.parent / ".rlhfc")
    (spec.parent / "rows.jsonl").write_text("{}" + " " * 1_000_000)
    expected = (
        f"warning: `{spec.parent / 'rows.jsonl'}` on nfs: taken as unchanged by size and times; "
        "`--rehash` reads again\n"
    )
    told = []
    for options in ([], [], ["--rehash"]):
        main(["plan", "toy.yaml", *options])
        told.append(capsys.readouterr().err)
    assert ["", expected, ""] == told


@pytest.mark.parametrize("policy", ["invalidate", "warn", "ignore"])
def test_a_run_needs_what_no_key_has(policy: str, spec: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """A library that is let go makes a key known; a run without it is refused all the same."""
    spec.write_text(SPEC.replace("stages:", f"libraries: {{no-such-library: {policy}}}\nstages:"))
    before = files(spec.parent)
    assert 1 == main(["run", "toy.yaml"])
    blocks = capsys.readouterr().err.split("\n\n")
    message = "`no-such-library` is not installed here"
    assert [f"first: {message}", f"second: {message}", "2 errors\n"] == [
        block.partition("error: ")[2].splitlines()[0] if "error: " in block else block for block in blocks
    ]
    assert before == files(spec.parent)
