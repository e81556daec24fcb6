"""The numbered lessons do what their pages say."""

from __future__ import annotations

import json
import re
import subprocess
import sys
from pathlib import Path

import pytest

EXAMPLES = Path(__file__).parents[2] / "examples"
LESSONS = sorted(EXAMPLES.glob("[0-9][0-9]-*"))
OWN_KIND = EXAMPLES / "02-own-stage-kind" / "pipeline.yaml"


def rlhfc(name: str, spec: Path, store: Path, *options: str) -> subprocess.CompletedProcess[str]:
    """Run one command to its end."""
    command = [sys.executable, "-m", "rlhfc", name, str(spec), "--store", str(store), *options]
    return subprocess.run(command, capture_output=True, text=True, check=False, timeout=300)


def verdicts(spec: Path, store: Path, *options: str) -> dict[str, str]:
    """Verdict of each stage."""
    plan = rlhfc("plan", spec, store, "--json", *options)
    assert plan.returncode == 0, plan.stderr
    return {stage["stage"]: stage["verdict"] for stage in json.loads(plan.stdout)["stages"]}


def test_lessons_are_numbered():
    """01, 02, 03 and so on, each with a spec and a page of at most 100 lines."""
    assert [f"{number:02d}" for number in range(1, len(LESSONS) + 1)] == [path.name[:2] for path in LESSONS]
    for lesson in LESSONS:
        page = (lesson / "README.md").read_text(encoding="utf-8")
        assert (True, True) == ((lesson / "pipeline.yaml").is_file(), page.count("\n") <= 100), lesson.name


@pytest.mark.parametrize("lesson", LESSONS, ids=lambda lesson: lesson.name)
def test_each_spec_is_planned(lesson, tmp_path):
    """A plan of a fresh store runs every stage, names what the page names, and hints at nothing missing."""
    page = (lesson / "README.md").read_text(encoding="utf-8")
    plan = rlhfc("plan", lesson / "pipeline.yaml", tmp_path / "store")
    assert (0, "") == (plan.returncode, plan.stderr)
    stages = re.findall(r"^  \+  (\S+)", plan.stdout, re.MULTILINE)
    assert f"Plan: {len(stages)} to run" == plan.stdout.splitlines()[-1]
    assert [] == [stage for stage in stages if stage not in page]


def test_overlay_of_the_sweep_shortens_every_stage(tmp_path):
    """The fourth lesson's overlay sets the steps of all training stages, and changes no other name."""
    lesson = EXAMPLES / "04-sweep"
    overlay = ("--overlay", str(lesson / "glance.yaml"))
    plan = rlhfc("plan", lesson / "pipeline.yaml", tmp_path, "--json", "--show", *overlay)
    stages = {
        stage["stage"]: stage["rendered"]["config"]["params"] for stage in json.loads(plan.stdout)["stages"]
    }
    steps = {name: params["max_steps"] for name, params in stages.items() if "max_steps" in params}
    variants = ("kl=0.02,lr=0.0002", "kl=0.02,lr=0.0005", "kl=0.1,lr=0.0005")
    assert dict.fromkeys(("sft", "reward", *(f"ppo@{each}" for each in variants)), 2) == steps
    assert [(0.02, 2e-4), (0.02, 5e-4), (0.1, 5e-4)] == [
        (stages[f"ppo@{each}"]["kl_coef"], stages[f"ppo@{each}"]["actor_learning_rate"]) for each in variants
    ]


def test_one_computation_twice_has_one_key(tmp_path):
    """Without its centring term the second reward model is the first: their resolved settings agree."""
    lesson = EXAMPLES / "01-two-reward-models" / "pipeline.yaml"
    plan = rlhfc("plan", lesson, tmp_path, "--json", "--show", "--set", "centred.centering=0.0")
    stages = {stage["stage"]: stage for stage in json.loads(plan.stdout)["stages"]}
    plain, centred = (stages[name]["rendered"]["config"]["params"] for name in ("plain", "centred"))
    assert plain == centred


def test_own_kind_runs(tmp_path):
    """The second lesson: 7 of 10 rows stay, and `data_split` reads them; a second run does nothing."""
    store = tmp_path / "store"
    run = rlhfc("run", OWN_KIND, store, "--json")
    assert run.returncode == 0, run.stderr
    medium, split = json.loads(run.stdout)["stages"]
    assert {"kept": 7, "dropped": 3} == medium["summary"]
    assert {"sft_train": 6, "sft_eval": 1, "read": 7} == {
        name: split["summary"][name] for name in ("sft_train", "sft_eval", "read")
    }
    assert {"medium": "cached", "split": "cached"} == verdicts(OWN_KIND, store)

    edit = ("--set", "medium.max_words=19")
    assert {"medium": "run", "split": "undecided"} == verdicts(OWN_KIND, store, *edit)
    again = json.loads(rlhfc("run", OWN_KIND, store, "--json", *edit).stdout)
    assert ["done", "cached"] == [stage["state"] for stage in again["stages"]]


def test_own_kind_tells_mistakes(tmp_path):
    """What the spec gets wrong is told by `plan`, what only the stage can see by the stage."""
    plan = rlhfc("plan", OWN_KIND, tmp_path / "store", "--set", "medium.min_words=30")
    assert (1, "--set: error: medium: min_words 30 is above max_words 20") == (
        plan.returncode,
        plan.stderr.splitlines()[0],
    )
    run = rlhfc("run", OWN_KIND, tmp_path / "store", "--quiet", "--set", "medium.min_words=15")
    assert run.returncode == 1
    assert (
        "error: medium: none of 10 rows stays\nhint: lower `min_words` or raise `max_words`\n" in run.stderr
    )
