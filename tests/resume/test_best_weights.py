"""A stage that leaves its best weights leaves those of the step that it names, killed or not."""

import pytest
from workbench import Case

pytestmark = pytest.mark.launch

# Too high a rate, so that the loss soon rises; constant, so that a shorter run takes the same steps.
STEEP = ("schedule=constant", "warmup_steps=0", "learning_rate=0.1", "epochs=20", "checkpoint_every=100")
CASES = [Case("sft", 0, 1), Case("reward", 1, 2, "bf16"), Case("sft", 3, 2)]


def changed(case, *settings):
    """The case with a rate that is too high, and further settings."""
    return Case(
        case.stage, case.zero, case.ranks, case.dtype, tuple(f"{case.stage}.{s}" for s in (*STEEP, *settings))
    )


@pytest.mark.parametrize("case", CASES, ids=str)
def test_the_best_weights_are_left(bench, case):
    """Evaluated after each of eight steps; the outputs are those of a run that ends at the best one."""
    name = f"best-{case}"
    case_of_best = changed(case, "max_steps=8", "best={every: 1}")
    whole = [0] * case.ranks
    assert whole == bench.launch(case_of_best, name), bench.log(name)
    summary = bench.manifest(name)["summary"]
    losses = {line["step"]: line["eval_loss"] for line in bench.metrics(name) if line["phase"] == "eval"}
    del losses[0]
    step = min(losses, key=losses.get)
    assert 1 <= step < 8, losses
    assert step == summary["best_step"]
    assert losses[step] == pytest.approx(summary["eval_loss"], rel=1e-4)
    assert whole == bench.launch(changed(case, f"max_steps={step}"), f"{name}-short")
    assert bench.outputs(f"{name}-short") == bench.outputs(name)

    killed = f"{name}-killed"
    assert [-9] * case.ranks == bench.launch(case_of_best, killed, kill_at=step + 1, after=step)
    assert whole == bench.launch(case_of_best, killed), bench.log(killed)
    assert step == bench.resumed_at(killed)
    assert bench.outputs(name) == bench.outputs(killed)
    assert summary == bench.manifest(killed)["summary"]


def test_patience_ends_a_stage(bench):
    """After two evaluations in a row that are no better it stops; its manifest says so."""
    case = changed(CASES[0], "max_steps=40", "best={every: 1, patience: 2}")
    assert [0] == bench.launch(case, "patient"), bench.log("patient")
    manifest = bench.manifest("patient")
    best = manifest["summary"]["best_step"]
    assert (best + 2, best + 2) == (manifest["step"], manifest["total"])
    assert manifest["step"] < 40


EARLY_BEST = ("max_steps=14", "best={every: 1}", "checkpoint_every=1", "keep_checkpoints=1")


@pytest.mark.parametrize(("zero", "ranks"), [(0, 1), (3, 2)])
def test_the_best_outlives_later_checkpoints(bench, zero, ranks):
    """Killed three steps after the best, with room for one checkpoint, and resumed under this layout."""
    whole, name = changed(CASES[0], *EARLY_BEST), f"outlives-{zero}"
    assert [0] == bench.launch(whole, "outlives-whole"), bench.log("outlives-whole")
    summary = bench.manifest("outlives-whole")["summary"]
    best = summary["best_step"]
    assert best < 11
    assert [-9] == bench.launch(whole, name, kill_at=best + 3, after=best + 2)
    resumed = changed(Case("sft", zero, ranks), *EARLY_BEST)
    assert [0] * ranks == bench.launch(resumed, name), bench.log(name)
    assert best + 2 == bench.resumed_at(name)
    assert best == bench.manifest(name)["summary"]["best_step"]
    assert bench.outputs("outlives-whole") == bench.outputs(name)


def test_a_stage_that_is_stopped_at_every_step_leaves_the_same(bench):
    """Each launch takes one step and is asked to stop: patience, best weights and figures are the same."""
    case = changed(CASES[1], "max_steps=6", "best={every: 1, patience: 2}", "keep_checkpoints=1")
    assert [0, 0] == bench.launch(case, "never-stopped"), bench.log("never-stopped")
    ended = [75, 75]
    for _ in range(7):
        if ended == [75, 75]:
            ended = bench.launch(case, "always-stopped", stop=True)
    assert [0, 0] == ended, bench.log("always-stopped")
    assert bench.outputs("never-stopped") == bench.outputs("always-stopped")
    assert bench.manifest("never-stopped")["summary"] == bench.manifest("always-stopped")["summary"]
