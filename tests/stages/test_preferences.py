"""What a policy says of pairs, and the rewards that DPO makes of it."""

from types import SimpleNamespace

import numpy as np
import pytest
import torch
from rlhfc.stages.common.losses import summed_preference_loss
from rlhfc.stages.common.modules import Policy
from rlhfc.stages.common.pairs import PairLogProbs
from rlhfc.stages.dpo.kind import DpoParams
from rlhfc.stages.dpo.main import ImplicitRewards
from rlhfc.stages.reference.kind import ReferenceParams

CPU = torch.device("cpu")
ROWS = [
    ([1, 5, 6, 7], [8, 9, 2], [10, 2]),
    ([1, 4], [11, 2], [12, 13, 14, 2]),
    ([1, 4, 5], [6, 2], [7, 2]),
]


class Rows(list):
    """Pairs in the place of a token file."""

    def __getitem__(self, row):
        return tuple(np.array(part) for part in super().__getitem__(row))


@pytest.fixture
def pairs(causal_lm):
    """What the tiny policy says of three ragged pairs."""
    return PairLogProbs(Policy(causal_lm), Rows(ROWS), 0, CPU)


def alone(model, prompt, response):
    """Σ log p by plain transformers, one row without padding."""
    ids = torch.tensor([[*prompt, *response]])
    log_probs = model(ids).logits[0].log_softmax(-1)
    places = range(len(prompt) - 1, ids.shape[1] - 1)
    return sum(float(log_probs[place, ids[0, place + 1]]) for place in places)


@torch.no_grad()
def test_log_probs_of_both_sides_equal_those_of_each_row_alone(pairs, causal_lm):
    """Chosen and rejected share a forward with rows of other lengths, and no padding counts."""
    expected = [[alone(causal_lm, prompt, side) for side in sides] for prompt, *sides in ROWS]
    torch.testing.assert_close(pairs([0, 1, 2]), torch.tensor(expected), atol=1e-4, rtol=0)


def rewards(pairs, reference, **params):
    """Rewards of all pairs, against a reference."""
    about = SimpleNamespace(**{"beta": 0.5, "loss": "sigmoid"} | params)
    return ImplicitRewards(pairs, reference, about)([0, 1, 2])


@torch.no_grad()
def test_rewards_are_beta_times_what_the_policy_has_moved(pairs):
    """Zero against itself; β for each nat that the reference is below."""
    same = pairs([0, 1, 2]).numpy()
    assert all(float(side.abs().max()) < 1e-5 for side in rewards(pairs, same))
    chosen, rejected = rewards(pairs, same - np.array([[3.0, -1.0]], dtype=np.float32))
    assert [pytest.approx(1.5, abs=1e-5)] * 3 == chosen.tolist()
    assert [pytest.approx(-0.5, abs=1e-5)] * 3 == rejected.tolist()


@torch.no_grad()
def test_ipo_counts_a_mean_over_tokens(pairs):
    """What a response has moved is divided by its own tokens: 3, 2, 2 and 2, 4, 2."""
    low = pairs([0, 1, 2]).numpy() - 6.0
    chosen, rejected = rewards(pairs, low, loss="ipo")
    assert [pytest.approx(value, abs=1e-5) for value in (1.0, 1.5, 1.5)] == chosen.tolist()
    assert [pytest.approx(value, abs=1e-5) for value in (1.5, 0.75, 1.5)] == rejected.tolist()


def test_a_step_raises_chosen_and_lowers_rejected(pairs, causal_lm):
    """Against itself as the reference, a step of gradient descent widens every difference."""
    before = pairs([0, 1, 2]).detach()
    loss = summed_preference_loss(*rewards(pairs, before.numpy()))
    assert 3 * np.log(2) == pytest.approx(float(loss.detach()), abs=1e-4)
    loss.backward()
    with torch.no_grad():
        for parameter in causal_lm.parameters():
            parameter -= 1e-3 * parameter.grad
        moved = pairs([0, 1, 2]) - before
    assert bool((moved[:, 0] > moved[:, 1]).all())


WHERE = {"model": {"path": "m"}, "data": {"path": "d"}}


def test_smoothing_is_of_the_sigmoid():
    """Told when the spec is read; and a frozen model has no field for what only training needs."""
    with pytest.raises(ValueError, match="`label_smoothing` goes with `loss: sigmoid`, not with `ipo`"):
        DpoParams(**WHERE, reference={"path": "r"}, loss="ipo", label_smoothing=0.1)
    for name, value in {"lora": {"rank": 1}, "dropout": 0.1, "gradient_checkpointing": True}.items():
        with pytest.raises(ValueError, match=f"{name}\n  Extra inputs are not permitted"):
            ReferenceParams(**WHERE, **{name: value})
