"""The whole pipeline through real `deepspeed` launches on two gloo ranks, and what a second run does."""

import json
import os
import shutil
import signal
import subprocess
import time
from pathlib import Path

import pytest
import torch
import yaml
from safetensors.torch import load_file
from world import command, rlhfc

from rlhfc.store.store import Store

pytestmark = pytest.mark.launch
RECORDED = Path(__file__).parents[1] / "project" / "recorded" / "quickstart.json"
STAGES = ["split", "sft", "reward", "engines", "ppo", "eval", "export"]


def verdicts(spec: Path, *options: str, store: str = "store") -> dict[str, str]:
    """Verdict of each stage."""
    plan = json.loads(rlhfc("plan", spec, "--json", *options, store=store).stdout)
    return {stage["stage"]: stage["verdict"] for stage in plan["stages"]}


def digests(spec: Path, store: str, stage: str) -> dict[str, str]:
    """Tree digest of each output of the stage's last result."""
    opened = Store.open(spec.parent / store)
    key = opened.last_key("tiny", stage)
    assert key is not None
    result = opened.lookup(key)
    assert result is not None
    return dict(result.outputs)


def test_every_stage_runs(ran):
    """Two ranks, ZeRO 1 to 3, LoRA: all seven stages end well, with a table and a report."""
    assert ran.before.returncode == 2
    assert ran.run.returncode == 0, ran.run.stderr
    table = ran.run.stdout.splitlines()
    assert STAGES == [line.split()[0] for line in table[1:8]]
    assert ["done"] * 7 == [line.split()[1] for line in table[1:8]]
    assert Path(table[-1].removeprefix("report: ")).is_file()


def test_second_run_does_nothing(ran):
    """Plan says so with status 0, run says so and starts nothing."""
    assert rlhfc("plan", ran.spec, "--detailed-exitcode").returncode == 0
    again = rlhfc("run", ran.spec)
    assert (0, "nothing to do: 7 of 7 stages cached") == (again.returncode, again.stderr.splitlines()[-1])


def test_recorded_run_has_the_figures_and_outputs_of_a_run(ran):
    """What transcripts of training are printed from has the figures and ports that stages have today.

    The tiny pipeline has no demonstrations and another judge; that is all that may differ.
    """
    opened = Store.open(ran.spec.parent / "store")
    recorded = json.loads(RECORDED.read_text())
    assert STAGES == list(recorded)
    for name, stage in recorded.items():
        result = opened.lookup(opened.last_key("tiny", name))
        figures = {figure.replace("rule", "lower") for figure in stage["summary"]}
        assert (figures, set(stage["files"])) == (set(result.summary), set(result.outputs)), name


def test_edits_rerun_what_they_reach(ran):
    """kl_coef: ppo and what follows. Logging, micro-batch and comments: nothing."""
    cached = dict.fromkeys(STAGES, "cached")
    assert cached | {"ppo": "run", "eval": "undecided", "export": "undecided"} == verdicts(
        ran.spec, "--set", "ppo.kl_coef=0.05"
    )
    assert cached == verdicts(ran.spec, "--set", "ppo.log_every=7", "--set", "sft.micro_batch_size=1")
    assert cached == verdicts(ran.spec, "--set", "engines.actor.zero_stage=0", "--set", "ppo.ranks=1")
    text = ran.spec.read_text()
    ran.spec.write_text("# a comment\n" + text.replace("kl_coef: 0.1", "kl_coef: 1e-1   # another"))
    try:
        assert cached == verdicts(ran.spec)
    finally:
        ran.spec.write_text(text)


def test_killed_run_resumes_to_the_same_bytes(ran):
    """PPO on two ranks is killed with all around it; the same command gives the same actor and critic."""
    expected = digests(ran.spec, "store", "ppo")
    store = ran.spec.parent / "killed"
    shutil.copytree(ran.spec.parent / "store", store, symlinks=True)
    opened = Store.create(store)
    for stage in ("ppo", "eval", "export"):
        key = opened.last_key("tiny", stage)
        assert key is not None
        opened.forget(key, opened.record(key))
        shutil.rmtree(opened.work(stage, key), ignore_errors=True)
    process = subprocess.Popen(
        command("run", ran.spec, store="killed"),
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
        start_new_session=True,
    )
    key = opened.last_key("tiny", "ppo")
    deadline = time.monotonic() + 300
    while (found := opened.checkpoint("ppo", key)) is None and time.monotonic() < deadline:
        time.sleep(0.05)
    os.killpg(process.pid, signal.SIGKILL)
    process.wait()
    assert found is not None, "no checkpoint was written in time"
    assert found[0] < found[1]
    assert opened.lookup(key) is None, "the run was over before it was killed"
    assert "resume" == verdicts(ran.spec, store="killed")["ppo"]
    again = rlhfc("run", ran.spec, store="killed")
    assert again.returncode == 0, again.stderr
    assert expected == digests(ran.spec, "killed", "ppo")
    # The attempt's log tells that it went on and did not start over.
    steps = [line["step"] for line in opened.metrics(opened.lookup(key)) if line["phase"] == "train"]
    assert [1, 2, 3, 4, 5, 6] == steps


VARIANTS = {
    "one_rank": {"ranks": 1, "zero_stage": 0},
    "zero_0": {"zero_stage": 0},
    "zero_1": {"zero_stage": 1},
    "zero_3": {"zero_stage": 3, "gradient_checkpointing": True},
    "bf16": {"zero_stage": 2, "dtype": "bf16", "lora": {"rank": 4}, "gradient_checkpointing": True},
}


@pytest.fixture(scope="module")
def variants(ran) -> tuple[Path, str]:
    """The same SFT on other ranks, ZeRO stages and types, in a store of its own."""
    whole = yaml.safe_load(ran.spec.read_text())
    sft = whole["stages"]["sft"] | {"learning_rate": 1e-2}
    stages = {"split": whole["stages"]["split"]} | {name: sft | change for name, change in VARIANTS.items()}
    spec = ran.spec.with_name("variants.yaml")
    defaults = {"device": "cpu", "dtype": "fp32", "log_every": 1}
    spec.write_text(yaml.safe_dump({"schema": 1, "name": "tiny", "defaults": defaults, "stages": stages}))
    run = rlhfc("run", spec, store="variants")
    assert run.returncode == 0, run.stderr
    return spec, "variants"


@pytest.mark.parametrize("variant", ["one_rank", "zero_0", "zero_1", "zero_3"])
def test_ranks_and_zero_stages_agree_to_rounding(ran, variants, variant):
    """One rank, ZeRO 0, 1 and 3 with activation checkpointing give the weights of two ranks with ZeRO 2."""
    ours = weights(ran.spec, "store", "sft")
    theirs = weights(*variants, variant)
    assert ours.keys() == theirs.keys()
    assert max(float((ours[name] - theirs[name]).abs().max()) for name in ours) < 1e-4


def test_bf16_with_adapters_learns(variants):
    """Two ranks, ZeRO 2, bf16, LoRA, activation checkpointing: the held-out loss falls."""
    spec, store = variants
    opened = Store.open(spec.parent / store)
    metrics = opened.metrics(opened.lookup(opened.last_key("tiny", "bf16")))
    losses = [line["eval_loss"] for line in metrics if line["phase"] == "eval"]
    assert losses[-1] < losses[0]


def weights(spec: Path, store: str, stage: str) -> dict[str, torch.Tensor]:
    """Tensors of the model that a stage made."""
    folder = Store.open(spec.parent / store).view(digests(spec, store, stage)["model"])
    return load_file(folder / "model.safetensors")
