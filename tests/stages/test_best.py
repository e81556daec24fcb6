"""Which evaluation is the best, and when there have been enough."""

import pytest
from rlhfc.stages.common.best import Best
from rlhfc.stages.sft.kind import SftParams

from rlhfc.kind import BestParams


def decided(how, figures, total=100):
    """What comes of evaluations at steps 10, 20, …: the best step, and at which step it was exhausted."""
    best = Best(how, total)
    for step, value in enumerate(figures, start=1):
        best.take(10 * step, {how.by: value, "other": step})
        if best.exhausted:
            return best.step, 10 * step
    return best.step, None


@pytest.mark.parametrize(
    ("by", "figures", "step"),
    [
        ("eval_loss", [3.0, 2.0, 2.5], 20),
        ("eval_loss", [3.0, 2.0, 2.0], 20),
        ("eval_loss", [float("nan"), 2.0, float("nan")], 20),
        ("eval_loss", [float("nan"), float("inf")], None),
        ("eval_loss", [float("inf"), 2.0], 20),
        ("eval_accuracy", [0.5, 0.7, 0.7, 0.6], 20),
    ],
)
def test_best_is_the_first_of_the_best(by, figures, step):
    """The lowest loss or the highest accuracy; of equal ones the first; what is no number never is."""
    assert (step, None) == decided(BestParams(every=10, by=by), figures)


def test_patience_counts_evaluations_in_a_row():
    """Two without a better one end it; a better one between them starts the count anew."""
    how = BestParams(every=10, patience=2)
    assert (40, 60) == decided(how, [3.0, 2.0, 2.5, 1.5, 1.6, 1.7, 0.1])
    assert (10, None) == decided(how, [3.0, 3.5])


def test_evaluations_are_due_at_their_cadence_and_at_the_end():
    """Without `best` none decides."""
    best = Best(BestParams(every=10), 25)
    assert [10, 20, 25] == [step for step in range(26) if step and best.due(step)]
    assert not any(Best(None, 25).due(step) for step in range(26))


def test_it_goes_on_where_it_was():
    """After a resume the same evaluations exhaust it."""
    how = BestParams(every=10, patience=2)
    first, second = Best(how, 100), Best(how, 100)
    first.take(10, {"eval_loss": 1.0})
    first.take(20, {"eval_loss": 2.0})
    second.load_state_dict(first.state_dict())
    assert (10, {"eval_loss": 1.0}, False) == (second.step, second.figures, second.exhausted)
    second.take(30, {"eval_loss": 2.0})
    assert second.exhausted


def test_sft_has_no_accuracy():
    """Told when the spec is read."""
    with pytest.raises(ValueError, match=r"`best.by: eval_accuracy` is for preferences"):
        SftParams(
            model={"path": "m"}, data={"path": "d"}, best=BestParams(every=1, by="eval_accuracy"), seed=1
        )
