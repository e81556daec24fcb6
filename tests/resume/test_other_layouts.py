"""A checkpoint that other ranks or ZeRO stages have saved goes on here: closely, and on record."""

import shutil

import pytest
from safetensors.torch import load_file
from workbench import Case

pytestmark = pytest.mark.launch

# Without dropout, which draws anew on new ranks, all layouts compute the same but for rounding.
STILL = tuple(f"{place}.dropout=0.0" for place in ("sft", "reward", "engines.actor", "engines.critic"))
LORA = ("engines.actor.lora={rank: 4}",)
CHANGES = [
    ("sft", (2, 2), (1, 1), ()),
    ("sft", (3, 2), (0, 1), ()),
    ("sft", (0, 1), (3, 2), ()),
    ("reward", (1, 1), (3, 1), ()),
    ("ppo", (3, 2), (1, 1), LORA),
    ("ppo", (1, 1), (2, 2), ()),
]


def weights(bench, name):
    """Every tensor that a launch made."""
    files = sorted((bench.work(name) / "out").glob("*/model.safetensors"))
    return {(file.parent.name, name): tensor for file in files for name, tensor in load_file(file).items()}


@pytest.fixture(scope="module")
def undisturbed(bench):
    """Weights of a kind's run on one rank without ZeRO that was left alone."""
    made = {}

    def run(kind, changes):
        name = f"still-{kind}-{len(changes)}"
        if name not in made:
            case = Case(kind, 0, 1, changes=(*STILL, *changes))
            assert [0] == bench.launch(case, name), bench.log(name)
            made[name] = weights(bench, name)
        return made[name]

    return run


@pytest.mark.parametrize(("kind", "then", "now", "changes"), CHANGES, ids=lambda part: str(part))
def test_resumes_under_another_layout(bench, undisturbed, kind, then, now, changes):
    """The weights are those of an undisturbed run to 1e-5, and the manifest says what was done."""
    before, after = (Case(kind, *layout, changes=(*STILL, *changes)) for layout in (then, now))
    name = f"{before}-to-{after}-{len(changes)}"
    assert [-9] * before.ranks == bench.launch(before, name, kill_at=3, after=2)
    assert [0] * after.ranks == bench.launch(after, name), bench.log(name)
    assert 2 == bench.resumed_at(name)
    expected, got = undisturbed(kind, changes), weights(bench, name)
    assert expected.keys() == got.keys()
    assert max(float((expected[place] - got[place]).abs().max()) for place in expected) < 1e-5
    said = bench.manifest(name)["summary"]["resumed_with_other_layout"]
    assert f"{described(kind, then)} → {described(kind, now)} at step 2" == said
    assert not list((bench.work(name) / "checkpoints").glob("universal-*"))


def described(kind, layout):
    """A layout in words."""
    zero, ranks = layout
    stages = f"actor {zero}, critic {zero}" if kind == "ppo" else str(zero)
    return f"{ranks} rank{'s' if ranks > 1 else ''} zero {stages} on cpu"


def test_a_later_resume_remembers_the_change(bench):
    """Killed again under the second layout, the third launch resumes as usual and still tells of it."""
    then, now = (Case("sft", 0, ranks, changes=("sft.checkpoint_every=1", *STILL)) for ranks in (2, 1))
    assert [-9, -9] == bench.launch(then, "twice", kill_at=2, after=1)
    assert [-9] == bench.launch(now, "twice", kill_at=3, after=2)
    shutil.rmtree(bench.work("twice") / "checkpoints" / "step-000001", ignore_errors=True)
    assert [0] == bench.launch(now, "twice")
    assert 2 == bench.resumed_at("twice")
    said = bench.manifest("twice")["summary"]["resumed_with_other_layout"]
    assert "2 ranks zero 0 on cpu → 1 rank zero 0 on cpu at step 1" == said


def test_new_ranks_draw_by_a_rule(bench):
    """With dropout, a rank that was not there draws what seed, step and rank say: the same every time."""
    then, now = Case("sft", 1, 1), Case("sft", 1, 2)
    assert [-9] == bench.launch(then, "drawn", kill_at=3, after=2)
    shutil.copytree(bench.work("drawn"), bench.work("drawn-again"))
    for name in ("drawn", "drawn-again"):
        assert [0, 0] == bench.launch(now, name), bench.log(name)
    assert bench.outputs("drawn") == bench.outputs("drawn-again")
