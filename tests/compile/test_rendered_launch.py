"""Command, environment and resolved config of a launch; the sandbox that templates live in."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import pytest
from bench import Bench

from rlhfc.compile.action import Action, Launch, LoadedKind, WorkPaths
from rlhfc.compile.render import launch_argv, launch_environment, masked_argv, resolved_config
from rlhfc.errors import UserError
from rlhfc.kind import Kind, StageParams, numeric, semantic

Write = Callable[[str, str], Path]
LAUNCH = Launch(device="cpu", ranks="2", port="29500", include="localhost:0,1", python="/bin/python")


class TemplateParams(StageParams):
    """Two leaves for templates to read."""

    depth: int = semantic(3)
    buckets: int = numeric(4)


@pytest.fixture
def action(write: Write, tmp_path: Path) -> Callable[[str], Action]:
    """Make an action of a user's kind from the text of its launch template."""

    def make(template: str) -> Action:
        write("mine/fit/launch.argv.j2", template)
        kind = Kind("fit", 1, TemplateParams, {}, {})
        loaded = LoadedKind(kind, tmp_path / "mine" / "fit", "fit.main", tmp_path / "mine")
        return Action("p", "fit", loaded, TemplateParams(), {}, None, "cpu")

    return make


def test_deepspeed_on_the_cpu(bench: Bench, all_kinds: str) -> None:
    """The launcher counts accelerators; module and config follow."""
    sft = bench.compile(all_kinds, ["sft.device=cpu"]).actions["sft"]
    assert [
        "deepspeed",
        "--num_accelerators",
        "2",
        "--master_addr",
        "127.0.0.1",
        "--master_port",
        "29500",
        "--module",
        "rlhfc.stages.sft.main",
        "--config",
        "/w/config.json",
    ] == launch_argv(sft, LAUNCH, "/w/config.json")


def test_deepspeed_on_gpus(bench: Bench, all_kinds: str) -> None:
    """On GPUs the launch names them."""
    sft = bench.compile(all_kinds).actions["sft"]
    argv = launch_argv(sft, replace(LAUNCH, device="gpu"), "/w/config.json")
    assert ["deepspeed", "--include", "localhost:0,1", "--master_addr"] == argv[:4]


def test_a_stage_without_deepspeed(bench: Bench, all_kinds: str) -> None:
    """One process of the Python that rlhfc runs in."""
    split = bench.compile(all_kinds).actions["split"]
    expected = ["/bin/python", "-m", "rlhfc.stages.data_split.main", "--config", "c"]
    assert expected == launch_argv(split, LAUNCH, "c")


def test_the_masked_command(bench: Bench, all_kinds: str) -> None:
    """Nothing of how, where and on what a stage is launched is in the masked form."""
    assert [
        "deepspeed",
        "--include",
        "<launch.include>",
        "--master_addr",
        "127.0.0.1",
        "--master_port",
        "<launch.port>",
        "--module",
        "rlhfc.stages.sft.main",
        "--config",
        "<config>",
    ] == masked_argv(bench.compile(all_kinds, ["sft.device=cpu"]).actions["sft"])


def test_templates_see_parameters(action: Callable[[str], Action]) -> None:
    """Indentation and empty lines are layout, and a masked leaf is masked in the command as well."""
    made = action(
        "run\n\n  {% if params.depth > 2 %}\n  --deep\n  {% endif %}\n--buckets={{ params.buckets }}\n"
    )
    assert ["run", "--deep", "--buckets=4"] == launch_argv(made, LAUNCH, "c")
    assert ["run", "--deep", "--buckets=<numeric>"] == masked_argv(made)


def test_a_users_kind_includes_built_in_templates(action: Callable[[str], Action]) -> None:
    """The built-in command is at hand for kinds elsewhere."""
    made = action('{% include "common/python.argv.j2" %}')
    assert ["/bin/python", "-m", "fit.main", "--config", "c"] == launch_argv(made, LAUNCH, "c")


@pytest.mark.parametrize(
    ("template", "message"),
    [
        ("run\n{{ params.dept }}", r"has no attribute 'dept'"),
        ("run\n{{ nothing }}", r"'nothing' is undefined"),
        ("run\n{{ config + '\\n--evil' }}", r"'c\\n--evil' is no argument"),
        ("run\n{{ '' }}", r"'' is no argument"),
        ("run\n{{ ' c' }}", r"' c' is no argument"),
        ("{% if %}", r"Expected an expression"),
        ("{{ config.__class__.__mro__ }}", r"access to attribute '__class__' .* is unsafe"),
        ('{% include "../../secret.j2" %}', r"\.\./\.\./secret\.j2"),
        ("{# nothing #}", r"launch template yields no command"),
    ],
)
def test_templates_that_fail(template: str, message: str, action: Callable[[str], Action]) -> None:
    """What a template cannot do is told with the file's name."""
    made = action(template)
    with pytest.raises(UserError, match=message) as caught:
        launch_argv(made, LAUNCH, "c")
    (found,) = caught.value.diagnostics
    assert found.mark is not None
    assert "launch.argv.j2" == found.mark.file.name


def test_the_environment_of_a_launch(bench: Bench, all_kinds: str, action: Callable[[str], Action]) -> None:
    """Only what a launch adds: accelerator, threads, no download, a user's kind, the stage's own."""
    everywhere = {
        "HF_HUB_OFFLINE": "1",
        "OMP_NUM_THREADS": "1",
        "PYTHONHASHSEED": "0",
        "TOKENIZERS_PARALLELISM": "false",
        "TORCH_FORCE_WEIGHTS_ONLY_LOAD": "1",
    }
    actions = bench.compile(
        all_kinds, ["rm.threads=4", "rm.device=cpu", "sft.environment={A: b, C: 'c ${env:D}'}"]
    ).actions
    assert everywhere | {"A": "b", "C": "c ${env:D}"} == launch_environment(actions["sft"])
    assert ["D"] == list(actions["sft"].secrets)
    assert everywhere | {"DS_ACCELERATOR": "cpu", "OMP_NUM_THREADS": "4"} == launch_environment(actions["rm"])
    made = action("run")
    extra = {"DS_ACCELERATOR": "cpu", "PYTHONPATH": str(made.loaded.python_path)}
    assert everywhere | extra == launch_environment(made)


def test_a_resolved_config_as_a_whole(bench: Bench, all_kinds: str) -> None:
    """The form that docs/architecture.md promises to entry scripts, for a stage with settings and a file."""
    bench = bench.on(gpus=2)
    pipeline = bench.compile(all_kinds)
    work = Path("/w")
    paths = WorkPaths(work, work / "attempts/001", {"report": work / "attempts/001/out/report"})
    inputs = {"prompts": (Path("/v"), None), "judges.0.code": (Path("/s"), "judge.py")}
    assert {
        "format": 1,
        "pipeline": "all_kinds",
        "stage": "score",
        "kind": "evaluate",
        "action_key": "b3:00",
        "params": {
            "numerics": "recorded",
            "device": "auto",
            "ranks": 1,
            "threads": 1,
            "seed": 1234,
            "log_every": 10,
            "retries": 3,
            "retry_delay": 10.0,
            "timeout": None,
            "no_progress_timeout": 1800.0,
            "environment": {},
            "description": "",
            "frozen": False,
            "pin": None,
            "ignore_changes": [],
            "baseline": "baseline",
            "candidate": "candidate",
            "reward_model": "reward_model",
            "prompts": "prompts",
            "judges": [{"name": "rule", "code": "judges.0.code"}],
            "max_prompts": 256,
            "temperature": 1.0,
            "max_response_tokens": 256,
            "stop_token_ids": [],
            "confidence": 0.95,
            "dtype": "bf16",
            "micro_batch_size": 16,
        },
        "settings": {},
        "inputs": {
            "prompts": {"path": "/v", "file": None},
            "judges.0.code": {"path": "/s", "file": "judge.py"},
        },
        "outputs": {"report": "/w/attempts/001/out/report"},
        "deepspeed": {},
        "batch": None,
        "paths": {
            "work": "/w",
            "attempt": "/w/attempts/001",
            "checkpoints": "/w/attempts/001/checkpoints",
            "metrics": "/w/attempts/001/metrics.jsonl",
            "manifest": "/w/attempts/001/outputs.json",
            "stop_file": "/w/attempts/001/stop",
        },
    } == resolved_config(pipeline.actions["score"], "b3:00", inputs, paths)


def test_settings_and_batch_in_a_resolved_config(bench: Bench, all_kinds: str) -> None:
    """PPO is given the settings that it reads of the stage behind `engines`, and its own batch words."""
    ppo = bench.compile(all_kinds, ["ppo.ranks=4"]).actions["ppo"]
    paths = WorkPaths(Path("/w"), Path("/w/a"), {})
    config = resolved_config(ppo, "b3:00", {}, paths)
    assert {"global": 64, "micro": 8, "accumulation": 2, "ranks": 4} == config["batch"]
    assert ["engines"] == list(config["settings"])
    assert 8 == config["settings"]["engines"]["actor"]["lora"]["rank"]
    assert ["actor", "critic", "reference", "reward"] == list(config["settings"]["engines"])
    assert ["actor", "critic", "reference", "reward"] == list(config["deepspeed"])
