"""A stage that was killed and resumed makes the bytes of one that was left alone; also on real ranks."""

import pytest
from matrix import CASES, verdict
from workbench import Case

pytestmark = pytest.mark.launch

# Each kind, ZeRO stage, number of ranks and type at least once, and each kind on two ranks; all the others
# are in `make resume-matrix`.
DIAGONAL = [
    Case("sft", 0, 1, "fp32"),
    Case("sft", 2, 2, "bf16"),
    Case("reward", 1, 2, "fp32"),
    Case("reward", 3, 1, "bf16"),
    Case("dpo", 1, 2, "bf16"),
    Case("ppo", 3, 2, "fp32"),
]


@pytest.mark.parametrize("case", DIAGONAL, ids=str)
def test_killed_and_resumed_gives_the_same_bytes(bench, case):
    """Dropout, warm-up, weight decay and minibatches included; it goes on at its checkpoint."""
    assert case in CASES
    assert "same" == verdict(bench, case)


SFT, PPO = Case("sft", 0, 1, "fp32"), Case("ppo", 0, 1, "fp32")
LOST = {
    "nothing": (SFT, ("hungry",)),
    "weights": (SFT, ()),
    "first moments": (SFT, ()),
    "second moments": (SFT, ()),
    "optimiser step": (SFT, ()),
    "moments of the critic": (PPO, ()),
    "schedule": (SFT, ()),
    "schedule of the critic": (PPO, ()),
    "torch's generator": (SFT, ()),
    "Python's generator": (SFT, ("hungry",)),
    "numpy's generator": (SFT, ("hungry",)),
    "position": (SFT, ()),
}


@pytest.fixture(scope="module")
def whole(bench):
    """Outputs of the cases left alone, by what is done to their stages besides."""
    outputs = {}
    for case, always in dict.fromkeys(LOST.values()):
        name = f"lost-nothing-{case}-{len(always)}"
        assert [0] == bench.launch(case, name, mutations=always), bench.log(name)
        outputs[case, always] = bench.outputs(name)
    return outputs


@pytest.mark.parametrize("what", LOST)
def test_every_part_of_the_state_counts(bench, whole, what):
    """A stage with any one part left out of its checkpoint ends elsewhere; with all, at the same bytes."""
    case, always = LOST[what]
    name = f"lost-{what}"
    lost = [] if what == "nothing" else [what]
    assert [-9] == bench.launch(case, name, kill_at=3, after=2, mutations=[*always, *lost])
    assert [0] == bench.launch(case, name, mutations=always), bench.log(name)
    assert (what == "nothing") == (whole[case, always] == bench.outputs(name))
