"""`reference` and `dpo` on real ranks: what they make does not depend on how the work is spread."""

import json

import numpy as np
import pytest
from workbench import Case

pytestmark = pytest.mark.launch


def log_probs(bench, name, split):
    """What a launch of `reference` made of a split."""
    return np.load(bench.work(name) / "out" / "log_probs" / f"{split}.npy")


@pytest.mark.parametrize(("ranks", "zero", "micro"), [(1, 0, 1), (2, 0, 8), (2, 3, 3)])
def test_reference_does_not_depend_on_ranks(bench, ranks, zero, micro):
    """Ranks, ZeRO 3 and micro-batches move log-probabilities by rounding only."""
    name = f"reference-{ranks}-{zero}"
    case = Case("before", zero, ranks, changes=(f"before.micro_batch_size={micro}",))
    assert [0] * ranks == bench.launch(case, name), bench.log(name)
    for split in ("train", "eval"):
        expected = np.load(bench.made["before.log_probs"] / f"{split}.npy")
        assert len(expected)
        np.testing.assert_allclose(log_probs(bench, name, split), expected, atol=1e-4)


def test_dpo_starts_at_its_reference_and_learns(bench):
    """Before the first step both rewards are zero: loss ln 2; later chosen is above rejected."""
    case = Case("dpo", changes=("dpo.dropout=0", "dpo.epochs=4", "dpo.max_steps=12"))
    assert [0] == bench.launch(case, "dpo-learns"), bench.log("dpo-learns")
    first, *_, last = [line for line in bench.metrics("dpo-learns") if line["phase"] == "eval"]
    assert np.log(2) == pytest.approx(first["eval_loss"], abs=1e-5)
    assert 0 == pytest.approx(first["eval_chosen_reward"], abs=1e-5)
    assert 0 == pytest.approx(first["eval_rejected_reward"], abs=1e-5)
    assert last["eval_accuracy"] > 0.9
    assert last["eval_chosen_reward"] > last["eval_rejected_reward"]
    assert last["eval_loss"] < 0.6


@pytest.mark.parametrize("changes", [(), ("dpo.loss=ipo",), ("dpo.lora={rank: 4}",)], ids=str)
def test_dpo_does_not_depend_on_ranks(bench, changes):
    """One rank, and two under ZeRO 3 with other micro-batches, come to the same loss."""
    still = ("dpo.dropout=0", *changes)
    alone = Case("dpo", changes=still)
    two = Case("dpo", 3, 2, changes=(*still, "dpo.micro_batch_size=1"))
    found = []
    for name, case in ((f"dpo-alone-{changes}", alone), (f"dpo-two-{changes}", two)):
        assert [0] * case.ranks == bench.launch(case, name), bench.log(name)
        found.append([line["loss"] for line in bench.metrics(name) if line["phase"] == "train"])
    assert found[0] == pytest.approx(found[1], rel=1e-4)


@pytest.mark.parametrize("loss", ["bradley_terry", "deepspeed_chat"])
def test_reward_model_does_not_depend_on_ranks(bench, loss):
    """Losses, figures and the report of one rank, and of two under ZeRO 3 with other micro-batches."""
    still = ("reward.dropout=0", f"reward.loss={loss}")
    found = []
    for name, zero, ranks, micro in (("alone", 0, 1, 2), ("two", 3, 2, 1)):
        case = Case("reward", zero, ranks, changes=(*still, f"reward.micro_batch_size={micro}"))
        launch = f"reward-{name}-{loss}"
        assert [0] * ranks == bench.launch(case, launch), bench.log(launch)
        report = json.loads((bench.work(launch) / "out" / "model" / "reward_report.json").read_text())
        lines = [line for line in bench.metrics(launch) if line["phase"] == "train"]
        found.append((report, [line["loss"] for line in lines]))
    (one, losses), (other, others) = found
    assert losses == pytest.approx(others, rel=1e-4)
    assert one["figures"] == pytest.approx(other["figures"], rel=1e-3, abs=1e-4)
    assert one["scores"] == pytest.approx(other["scores"], rel=1e-3, abs=1e-4)


def test_log_probs_of_other_rows_are_refused(bench):
    """Status 65 and the way out: rows and log-probabilities are matched by their digests."""
    folder = bench.made["before.log_probs"]
    meta = json.loads((folder / "meta.json").read_text())
    try:
        (folder / "meta.json").write_text(json.dumps(meta | {"rows": {"train": "b3:0", "eval": "b3:0"}}))
        assert [65] == bench.launch(Case("dpo"), "dpo-other-rows")
    finally:
        (folder / "meta.json").write_text(json.dumps(meta))
    assert "the log-probabilities in `reference` are not those of the train rows" in bench.log(
        "dpo-other-rows"
    )
    assert "hint: give the `reference` stage the same `data`" in bench.log("dpo-other-rows")
