"""The mathematics of PPO against published values, hand-worked tables and slow reference forms."""

import math

import pytest
import torch
from rlhfc.stages.common import rl

# Upstream's golden vector (DeepSpeed-Chat's ppo_trainer, prompt of 3, slots 2 … 5 of 6): four response
# slots, of which the last is masked out of its losses although it holds the score.
LOG_PROBS = torch.tensor([[-0.5, -0.7, -0.9, -1.1]])
REFERENCE = torch.tensor([[-0.6, -0.9, -0.8, -1.0]])
VALUES = torch.tensor([[0.1, 0.2, 0.3, 0.4]])
ALL_FOUR = torch.tensor([[True, True, True, True]])
FIRST_THREE = torch.tensor([[True, True, True, False]])
ADVANTAGES = torch.tensor([[4.2177739, 4.3450251, 4.4895000, 4.6100001]])
RETURNS = torch.tensor([[4.3177738, 4.5450249, 4.7895002, 5.0100002]])


def bounded(score: float) -> torch.Tensor:
    """One finished response's score, clipped to 5."""
    return rl.bounded_scores(torch.tensor([score]), torch.tensor([False]), reward_clip=5.0, penalty=0.0)


def test_golden_advantages_and_returns():
    """Score 7 clipped to 5, KL coefficient 0.1, γ 1, λ 0.95 give upstream's advantages and returns."""
    kl = rl.kl_k1(LOG_PROBS, REFERENCE)
    rewards = rl.shaped_rewards(bounded(7.0), kl, ALL_FOUR, kl_coef=0.1)
    advantages, returns = rl.advantages_and_returns(rewards, VALUES, ALL_FOUR, gamma=1.0, lam=0.95)
    torch.testing.assert_close(advantages, ADVANTAGES, atol=1e-6, rtol=0)
    torch.testing.assert_close(returns, RETURNS, atol=1e-6, rtol=0)


def test_golden_policy_loss():
    """Upstream's actor loss over its three unmasked slots."""
    new = LOG_PROBS + torch.tensor([[0.3, -0.3, 0.05, 0.5]])
    loss = rl.policy_loss(new, LOG_PROBS, ADVANTAGES, FIRST_THREE, clip=0.2)
    assert float(loss.summed) / 3 == pytest.approx(-4.3332949, abs=1e-6)


def test_golden_value_loss():
    """Upstream's critic loss over its three unmasked slots."""
    loss = rl.value_loss(VALUES + 0.5, VALUES, RETURNS, FIRST_THREE, clip=0.2)
    assert float(loss.summed) / 3 == pytest.approx(8.6205912, abs=1e-6)


@pytest.mark.parametrize("lengths", [[3, 1, 5], [5, 5, 5]])
def test_score_is_on_the_last_action(lengths):
    """The score is the reward of the last token that counts, also where the response fills the width."""
    mask = torch.arange(5)[None, :] < torch.tensor(lengths)[:, None]
    scores = torch.tensor([1.0, -2.0, 3.0])
    rewards = rl.shaped_rewards(scores, torch.zeros(3, 5), mask, kl_coef=0.1)
    assert [(row, length - 1) for row, length in enumerate(lengths)] == [
        tuple(i) for i in rewards.nonzero().tolist()
    ]
    assert scores.tolist() == rewards.sum(dim=1).tolist()


def test_reward_clip_leaves_the_kl_penalty_alone():
    """Only the score is bounded: a penalty larger than the bound passes."""
    kl = torch.tensor([[100.0, 0.0]])
    rewards = rl.shaped_rewards(bounded(9.0), kl, torch.tensor([[True, True]]), kl_coef=0.1)
    torch.testing.assert_close(rewards, torch.tensor([[-10.0, 5.0]]))


def test_cut_off_response_pays_beyond_the_bound():
    """The penalty comes after the clip: at the lower bound it still counts."""
    scores = rl.bounded_scores(
        torch.tensor([-9.0, -9.0, 1.0]), torch.tensor([True, False, True]), reward_clip=5.0, penalty=0.5
    )
    assert [-5.5, -5.0, 0.5] == scores.tolist()


def slow_gae(rewards, values, gamma, lam):
    """A_t = Σ_k (γλ)^k δ_{t+k}, written as the double sum."""
    size = len(rewards)
    deltas = [rewards[t] + gamma * (values[t + 1] if t + 1 < size else 0.0) - values[t] for t in range(size)]
    return [sum((gamma * lam) ** k * deltas[t + k] for k in range(size - t)) for t in range(size)]


@pytest.mark.parametrize(("gamma", "lam"), [(1.0, 0.95), (0.9, 1.0), (0.99, 0.0)])
def test_gae_equals_the_double_sum_whatever_the_padding(gamma, lam):
    """Rows of different length in one tensor get what each gets alone; padding holds rubbish."""
    torch.manual_seed(0)
    lengths = [4, 1, 6]
    mask = torch.arange(8)[None, :] < torch.tensor(lengths)[:, None]
    rewards, values = torch.randn(3, 8), torch.randn(3, 8)
    advantages, returns = rl.advantages_and_returns(rewards, values, mask, gamma=gamma, lam=lam)
    for row, length in enumerate(lengths):
        expected = slow_gae(rewards[row, :length].tolist(), values[row, :length].tolist(), gamma, lam)
        assert expected == pytest.approx(advantages[row, :length].tolist(), abs=1e-5)
        assert torch.equal(advantages[row, length:], torch.zeros(8 - length))
    torch.testing.assert_close(returns, advantages + values * mask)


def test_lambda_one_gives_reward_to_go_minus_value():
    """With γ = λ = 1 the advantage is the sum of rewards still to come, less the value."""
    rewards, values = torch.tensor([[1.0, 2.0, 3.0]]), torch.tensor([[0.5, -1.0, 2.0]])
    mask = torch.ones(1, 3, dtype=torch.bool)
    advantages, _ = rl.advantages_and_returns(rewards, values, mask, gamma=1.0, lam=1.0)
    torch.testing.assert_close(advantages, torch.tensor([[5.5, 6.0, 1.0]]))


def test_whitening_ignores_padding():
    """Mean 0 and deviation 1 over the True positions; rubbish elsewhere changes nothing."""
    torch.manual_seed(0)
    values = torch.randn(4, 7) * 3 + 2
    mask = torch.arange(7)[None, :] < torch.tensor([7, 3, 1, 5])[:, None]
    whitened = rl.whiten(values, mask)
    assert float(whitened[mask].mean()) == pytest.approx(0, abs=1e-6)
    assert float(whitened[mask].std(unbiased=False)) == pytest.approx(1, abs=1e-5)
    assert torch.equal(whitened, rl.whiten(torch.where(mask, values, 1e6), mask))


def test_whitening_over_ranks_equals_whitening_of_all():
    """Two ranks that share their sums whiten as one that holds all rows."""
    torch.manual_seed(0)
    values, mask = torch.randn(4, 5), torch.rand(4, 5) > 0.3
    halves = [(values[:2], mask[:2]), (values[2:], mask[2:])]
    queue = []

    def summing(mine, other):
        # The other rank's sums, worked out from its rows: count and sum first, squares second.
        def total(x):
            other_values, other_mask = other
            wide = other_values.double() * other_mask
            if not queue:
                theirs = torch.stack([other_mask.sum().double(), wide.sum()])
                count, first = x + theirs
                queue.append(first / count)
                return x + theirs
            mean = queue.pop()
            return x + (((other_values.double() - mean) * other_mask) ** 2).sum().reshape(1)

        return rl.whiten(*mine, total)

    parts = [summing(halves[0], halves[1]), summing(halves[1], halves[0])]
    torch.testing.assert_close(rl.whiten(values, mask), torch.cat(parts))


# ratio, advantage, loss = max(−A ρ, −A clip(ρ, 0.8, 1.2)), clipped
POLICY_TABLE = [
    (1.0, 2.0, -2.0, 0),
    (1.5, 2.0, -2.4, 1),
    (1.5, -2.0, 3.0, 0),
    (0.5, 2.0, -1.0, 0),
    (0.5, -2.0, 1.6, 1),
]


@pytest.mark.parametrize(("ratio", "advantage", "expected", "clipped"), POLICY_TABLE)
def test_policy_loss_by_hand(ratio, advantage, expected, clipped):
    """Each sign case of the clipped objective; `clipped` counts where the bound is active."""
    one = torch.ones(1, 1, dtype=torch.bool)
    loss = rl.policy_loss(
        torch.tensor([[math.log(ratio)]]), torch.zeros(1, 1), torch.tensor([[advantage]]), one, clip=0.2
    )
    assert (expected, clipped) == (pytest.approx(float(loss.summed), abs=1e-6), int(loss.clipped))


def test_clipped_policy_gives_no_gradient():
    """Where the bound is active the token no longer pulls at the policy."""
    new = torch.tensor([[math.log(1.5), math.log(1.1)]], requires_grad=True)
    mask = torch.ones(1, 2, dtype=torch.bool)
    rl.policy_loss(new, torch.zeros(1, 2), torch.ones(1, 2), mask, clip=0.2).summed.backward()
    assert [0.0, pytest.approx(-1.1)] == new.grad[0].tolist()


def test_masked_positions_give_no_gradient_and_no_nan():
    """A gap of 1000 nats at a padded place, and one at a real place, leave the loss finite."""
    new = torch.tensor([[1000.0, 1000.0]], requires_grad=True)
    mask = torch.tensor([[True, False]])
    loss = rl.policy_loss(new, torch.zeros(1, 2), torch.full((1, 2), -1.0), mask, clip=0.2)
    loss.summed.backward()
    assert math.isfinite(float(loss.summed))
    assert float(new.grad[0, 1]) == 0.0


def test_value_loss_inside_the_clip_is_half_the_squared_error():
    """While values have moved less than the clip, both terms agree."""
    old, returns = torch.tensor([[0.0, 1.0]]), torch.tensor([[1.0, 0.0]])
    mask = torch.ones(1, 2, dtype=torch.bool)
    loss = rl.value_loss(old + 0.1, old, returns, mask, clip=0.2)
    assert (0.5 * (0.9**2 + 1.1**2), 0) == (pytest.approx(float(loss.summed)), int(loss.clipped))


def estimates(policy, reference, estimator):
    """Estimates over 400,000 samples of the policy, and the exact KL(π ‖ π_ref)."""
    torch.manual_seed(0)
    ours, theirs = torch.tensor(policy).log(), torch.tensor(reference).log()
    tokens = torch.multinomial(ours.exp(), 400_000, replacement=True)
    exact = float((ours.exp() * (ours - theirs)).sum())
    return estimator(ours[tokens], theirs[tokens]), exact


@pytest.mark.parametrize("estimator", [rl.kl_k1, rl.kl_k3])
def test_unbiased_kl_estimators(estimator):
    """k1 and k3 approach the exact divergence also where the policies are far apart."""
    found, exact = estimates([0.7, 0.2, 0.1], [0.2, 0.3, 0.5], estimator)
    assert exact == pytest.approx(float(found.mean()), abs=5e-3)


def test_k2_is_close_for_policies_that_are():
    """k2 is biased, by terms of third order in the difference."""
    found, exact = estimates([0.5, 0.3, 0.2], [0.45, 0.35, 0.2], rl.kl_k2)
    assert exact == pytest.approx(float(found.mean()), abs=1e-3)


def test_k2_and_k3_are_never_negative():
    """Unlike k1, whose single values are of either sign."""
    ours, theirs = torch.randn(1000), torch.randn(1000)
    assert float(rl.kl_k2(ours, theirs).min()) >= 0
    assert float(rl.kl_k3(ours, theirs).min()) >= 0
    assert float(rl.kl_k1(ours, theirs).min()) < 0


def test_explained_variance_of_perfect_and_of_constant_values():
    """1 for values that equal the returns, 0 for a constant at their mean."""
    returns = torch.tensor([[1.0, 2.0, 3.0, 9.0]])
    mask = torch.tensor([[True, True, True, False]])
    assert rl.explained_variance(returns, returns, mask) == pytest.approx(1.0)
    assert rl.explained_variance(torch.full((1, 4), 2.0), returns, mask) == pytest.approx(0.0)
