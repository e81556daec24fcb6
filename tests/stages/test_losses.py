"""Losses of SFT and reward model, and how rows become batches."""

import math

import numpy as np
import pytest
import torch
from rlhfc.stages.common.losses import (
    summed_cross_entropy,
    summed_ipo_loss,
    summed_preference_loss,
    token_log_probs,
)
from rlhfc.stages.common.modules import response_positions
from rlhfc.stages.common.rows import RowOrder, by_length, count_steps, pad_left, pad_right
from rlhfc.stages.common.statistics import wilson_interval
from rlhfc.stages.reward.scores import PairScores

CPU = torch.device("cpu")


def value_of(ids: torch.Tensor) -> torch.Tensor:
    """Upstream's toy value head: 0.1 · id + 0.01 · position."""
    return 0.1 * ids + 0.01 * torch.arange(ids.shape[1])


def test_golden_scores_at_the_last_real_token():
    """Upstream's golden pair scores 0.94 and 0.43, here found by length and not by searching for pad."""
    batch = pad_right([np.array([5, 6, 7, 8, 9]), np.array([5, 6, 3, 4])], 0, CPU)
    scores = value_of(batch.ids).gather(1, (batch.lengths - 1).unsqueeze(1)).squeeze(1)
    assert [pytest.approx(0.94), pytest.approx(0.43)] == scores.tolist()


def test_scores_do_not_depend_on_what_fills_the_row():
    """A filler that real rows hold too moves no score and no mask."""
    rows = [np.array([5, 6, 7]), np.array([9])]
    by_zero, by_nine = pad_right(rows, 0, CPU), pad_right(rows, 9, CPU)
    assert torch.equal(by_zero.mask, by_nine.mask)
    assert by_zero.lengths.tolist() == by_nine.lengths.tolist() == [3, 1]


def test_own_golden_preference_loss():
    """−log σ(0.94 − 0.43), on end scores alone; upstream's token-wise mean of the same pair is 0.4557."""
    loss = summed_preference_loss(torch.tensor([0.94]), torch.tensor([0.43]))
    assert math.log(1 + math.exp(-0.51)) == pytest.approx(float(loss), abs=1e-6)


class TokenValues(torch.nn.Module):
    """Upstream's stand-in for a reward model: 0.1 · id + 0.01 · position, at padding too."""

    def forward(self, ids, mask):
        """(B, L) scores."""
        return 0.1 * ids + 0.01 * torch.arange(ids.shape[1])


def of_upstream(chosen, rejected, prompt):
    """Loss and end scores of one pair by `loss: deepspeed_chat`."""
    pair = (prompt, chosen[len(prompt) :], rejected[len(prompt) :])
    scores = PairScores(TokenValues(), [tuple(np.array(part, dtype=int) for part in pair)], 0, CPU)
    return float(scores.ranked_by_token([0])), [float(side) for side in scores([0])]


def test_golden_loss_of_upstream():
    """Ranked from the first difference to the longer end, the shorter side's padding included."""
    loss, ends = of_upstream([5, 6, 7, 8, 9], [5, 6, 3, 4], [5, 6])
    assert 0.4557281 == pytest.approx(loss, abs=1e-6)
    assert [pytest.approx(0.94), pytest.approx(0.43)] == ends
    assert 0.6931472 == pytest.approx(of_upstream([5, 6, 7], [5, 6, 7], [5])[0], abs=1e-6)


def test_golden_loss_of_upstream_does_not_depend_on_the_batch():
    """A pair among longer ones costs what it costs alone."""
    pairs = [([5, 6], [7, 8, 9], [3, 4]), ([5], [6, 7, 8, 9, 10, 11], [6, 7, 8, 2])]
    rows = [tuple(np.array(part) for part in pair) for pair in pairs]
    both = PairScores(TokenValues(), rows, 0, CPU).ranked_by_token([0, 1])
    alone = sum(float(PairScores(TokenValues(), [row], 0, CPU).ranked_by_token([0])) for row in rows)
    assert alone == pytest.approx(float(both), abs=1e-6)


def test_identical_pair_costs_ln_two():
    """Equal scores: ln 2, as upstream (0.6931472)."""
    assert math.log(2) == pytest.approx(
        float(summed_preference_loss(torch.tensor([0.3]), torch.tensor([0.3])))
    )


def test_centering_adds_the_squared_sum():
    """The term centering · (chosen + rejected)²: zero for scores that balance."""
    plain = summed_preference_loss(torch.tensor([1.0]), torch.tensor([2.0]))
    assert float(plain) + 0.01 * 9 == pytest.approx(
        float(summed_preference_loss(torch.tensor([1.0]), torch.tensor([2.0]), centering=0.01))
    )
    assert float(summed_preference_loss(torch.tensor([2.0]), torch.tensor([-2.0]))) == pytest.approx(
        float(summed_preference_loss(torch.tensor([2.0]), torch.tensor([-2.0]), centering=0.01))
    )


def test_label_smoothing_takes_a_share_of_pairs_the_other_way_round():
    """With ε = 0.1 and a difference of ln 3: −(0.9 ln 3/4 + 0.1 ln 1/4) = 0.397543."""
    loss = summed_preference_loss(torch.tensor([math.log(3)]), torch.tensor([0.0]), label_smoothing=0.1)
    assert -(0.9 * math.log(3 / 4) + 0.1 * math.log(1 / 4)) == pytest.approx(float(loss), abs=1e-6)


def test_ipo_draws_the_difference_to_half_of_one_over_beta():
    """β = 0.1: ratios 6 and 2 differ by 4, one short of 5; at 5 the loss and its slope are zero."""
    chosen = torch.tensor([0.6, 0.7], requires_grad=True)
    loss = summed_ipo_loss(chosen, torch.tensor([0.2, 0.2]), 0.1)
    loss.backward()
    assert 1.0 == pytest.approx(float(loss.detach()), abs=1e-5)
    assert [pytest.approx(-20.0, abs=1e-3), pytest.approx(0.0, abs=1e-3)] == chosen.grad.tolist()


def test_token_log_probs_are_taken_at_the_sampling_temperature():
    """They are log softmax(logits / T), in fp32 even from bf16 logits."""
    logits = torch.tensor([[[2.0, 0.0, 1.0]]])
    expected = (logits / 0.5).log_softmax(-1)[0, 0, 2]
    assert float(expected) == pytest.approx(
        float(token_log_probs(logits, torch.tensor([[2]]), 0.5)), abs=1e-6
    )
    assert token_log_probs(logits.bfloat16(), torch.tensor([[2]])).dtype == torch.float32


def test_cross_entropy_ignores_what_the_mask_leaves_out():
    """The summed loss equals torch's on the counted tokens; other tokens get no gradient."""
    torch.manual_seed(0)
    logits = torch.randn(2, 3, 5, requires_grad=True)
    tokens = torch.tensor([[1, 2, 3], [4, 0, 0]])
    mask = torch.tensor([[True, True, True], [True, False, False]])
    loss = summed_cross_entropy(logits, tokens, mask)
    expected = torch.nn.functional.cross_entropy(logits[mask], tokens[mask], reduction="sum")
    torch.testing.assert_close(loss, expected)
    loss.backward()
    assert float(logits.grad[~mask].abs().max()) == 0.0
    assert float(logits.grad[mask].abs().min()) > 0.0


def test_response_positions_are_one_before_each_response_token():
    """Prompt of 3, response of 2: hidden states 2 and 3 predict tokens 3 and 4; beyond the row is clipped."""
    assert [[2, 3, 4], [0, 1, 2]] == response_positions(torch.tensor([3, 1]), 3, 5).tolist()
    assert [[3, 4, 4]] == response_positions(torch.tensor([4]), 3, 5).tolist()


def test_padding_sides():
    """Right padding keeps rows at the left, left padding at the right; masks follow."""
    rows = [np.array([1, 2, 3]), np.array([4])]
    assert [[1, 2, 3], [4, 9, 9]] == pad_right(rows, 9, CPU).ids.tolist()
    left = pad_left(rows, 9, CPU)
    assert [[1, 2, 3], [9, 9, 4]] == left.ids.tolist()
    assert [[True, True, True], [False, False, True]] == left.mask.tolist()


def test_row_order_visits_each_row_once_an_epoch():
    """Batches that do not divide the rows run on into the next epoch, which is another permutation."""
    order = RowOrder(10, seed=7)
    places = [row for step in range(5) for row in order.batch(step, 4)]
    assert sorted(places[:10]) == sorted(places[10:]) == list(range(10))
    assert places[:10] != places[10:]
    assert order.batch(2, 4) == RowOrder(10, seed=7).batch(2, 4)
    assert RowOrder(10, seed=8).batch(0, 10) != order.batch(0, 10)


@pytest.mark.parametrize(
    ("rows", "epochs", "size", "limit", "steps"),
    [(100, 2, 32, None, 6), (100, 2, 32, 4, 4), (64, 1, 64, None, 1)],
)
def test_count_steps(rows, epochs, size, limit, steps):
    """Whole batches over all epochs, capped by the limit."""
    assert steps == count_steps(rows, epochs, size, limit)


def test_by_length_groups_rows_of_like_length():
    """Each row once, neighbours alike."""
    lengths = np.array([9, 1, 8, 2, 7])
    assert [[1, 3], [4, 2], [0]] == by_length(range(5), lengths, 2)


def test_wilson_interval_against_published_values():
    """Newcombe 1998, table I: 81 of 263 is 0.2553 to 0.3662; 0 of 20 is 0 to 0.1611."""
    assert (pytest.approx(0.2553, abs=1e-4), pytest.approx(0.3662, abs=1e-4)) == wilson_interval(81, 263)
    assert (pytest.approx(0.0, abs=1e-9), pytest.approx(0.1611, abs=1e-4)) == wilson_interval(0, 20)
    assert (0.0, 1.0) == wilson_interval(0, 0)
