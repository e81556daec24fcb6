"""Preferences without a reward model: `reference` and `dpo` through real launches."""

import pytest
from world import SPLIT, make_world, rlhfc

SPEC = f"""\
schema: 1
name: direct
defaults: {{device: cpu, dtype: fp32, log_every: 1}}
stages:
{SPLIT}  before:
    kind: reference
    model: {{path: model}}
    data: split.reward
    ranks: 2
    zero_stage: 3
  dpo:
    kind: dpo
    model: {{path: model}}
    data: split.reward
    reference: before.log_probs
    ranks: 2
    zero_stage: 2
    learning_rate: 1e-2
    global_batch_size: 8
    epochs: 2
    lora: {{rank: 4}}
    best: {{every: 2}}
"""


@pytest.fixture(scope="module")
def spec(tmp_path_factory):
    """The tiny world with a pipeline of DPO."""
    path = make_world(tmp_path_factory.mktemp("direct")).with_name("direct.yaml")
    path.write_text(SPEC)
    return path


@pytest.mark.launch
def test_reference_is_asked_once_for_every_beta(spec):
    """Two ranks each, ZeRO 3 and 2, LoRA; another `beta` trains again and asks nobody."""
    first = rlhfc("run", spec)
    assert 0 == first.returncode, first.stderr
    table = {line.split()[0]: line for line in first.stdout.splitlines()[1:4]}
    assert ["done"] * 3 == [line.split()[1] for line in table.values()]
    assert "eval_accuracy" in table["dpo"]
    assert "best_step" in table["dpo"]
    again = rlhfc("run", spec, "--set", "dpo.beta=0.5")
    assert 0 == again.returncode, again.stderr
    states = [line.split()[:2] for line in again.stdout.splitlines()[1:4]]
    assert [["split", "cached"], ["before", "cached"], ["dpo", "done"]] == states
