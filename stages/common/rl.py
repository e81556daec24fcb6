"""The mathematics of PPO: pure functions of tensors, one equation each.

B responses, T response positions, right-padded. ``mask`` is the response mask: (B, T) bool, True for
a response token that counts, its end-of-sequence token included. Values at False positions are
ignored, whatever they are. Everything is fp32.

Where this departs from DeepSpeed-Chat on purpose:

* the score is added to the last action (upstream: one slot later, which the loss masks out or which
  is padding);
* nothing is computed from padding: masks are explicit, never "token != pad";
* advantages are whitened over the global batch; upstream's are not.

Sources: Schulman et al. 2016 (GAE), Schulman et al. 2017 (PPO), Ziegler et al. 2019 (KL in the
reward), Schulman 2020, "Approximating KL divergence" (k1, k2, k3).
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import torch

# exp() of more than this overflows nothing but says nothing either: the policies have parted.
LOG_RATIO_BOUND = 20.0


def kl_k1(log_probs: torch.Tensor, reference: torch.Tensor) -> torch.Tensor:
    """k1 = log π − log π_ref at each token: unbiased, may be negative; shape as given."""
    return log_probs - reference


def kl_k2(log_probs: torch.Tensor, reference: torch.Tensor) -> torch.Tensor:
    """k2 = (log π − log π_ref)² / 2: biased, low variance, never negative."""
    return 0.5 * (log_probs - reference) ** 2


def kl_k3(log_probs: torch.Tensor, reference: torch.Tensor) -> torch.Tensor:
    """k3 = e^(−d) − 1 + d with d = log π − log π_ref: unbiased and never negative."""
    difference = (log_probs - reference).clamp(-LOG_RATIO_BOUND, LOG_RATIO_BOUND)
    return torch.exp(-difference) - 1 + difference


def bounded_scores(
    scores: torch.Tensor, cut_off: torch.Tensor, *, reward_clip: float, penalty: float
) -> torch.Tensor:
    """Scores within ±reward_clip, less a penalty where the response was cut off.

    The penalty comes after the bound: a response that scores at the bound would otherwise not feel it.

    Args:
        scores: (B,) normalised scores.
        cut_off: (B,) bool, True where no stop token was drawn.
        reward_clip: bound of |score|.
        penalty: subtracted from cut-off responses.
    """
    return scores.clamp(-reward_clip, reward_clip) - penalty * cut_off


def shaped_rewards(
    scores: torch.Tensor, kl: torch.Tensor, mask: torch.Tensor, *, kl_coef: float
) -> torch.Tensor:
    """Per-token reward: −kl_coef · kl at every token, plus the score at the last one.

    Args:
        scores: (B,) of the whole responses.
        kl: (B, T) KL estimate.
        mask: (B, T); each row has at least one True.
        kl_coef: weight of the penalty.

    Returns:
        (B, T), 0 where the mask is False.
    """
    rewards = -kl_coef * kl * mask
    last = mask.sum(dim=1) - 1
    rows = torch.arange(len(scores), device=scores.device)
    rewards[rows, last] += scores
    return rewards


def advantages_and_returns(
    rewards: torch.Tensor, values: torch.Tensor, mask: torch.Tensor, *, gamma: float, lam: float
) -> tuple[torch.Tensor, torch.Tensor]:
    """GAE: δ_t = r_t + γ V_{t+1} − V_t, A_t = δ_t + γ λ A_{t+1}, return = A + V.

    Args:
        rewards: (B, T).
        values: (B, T), V_t seen before token t is chosen; the value after the last token is 0.
        mask: (B, T), True up to the last token of each response.
        gamma: discount.
        lam: λ; 1 gives A = discounted sum of rewards − V.

    Returns:
        (advantages, returns), both (B, T), 0 where the mask is False.
    """
    values = values * mask
    rewards = rewards * mask
    following = torch.zeros_like(values[:, 0])
    advantage = torch.zeros_like(following)
    columns: list[torch.Tensor] = []
    for t in reversed(range(values.shape[1])):
        delta = rewards[:, t] + gamma * following - values[:, t]
        advantage = (delta + gamma * lam * advantage) * mask[:, t]
        following = values[:, t]
        columns.append(advantage)
    advantages = torch.stack(columns[::-1], dim=1)
    return advantages, advantages + values


def whiten(
    values: torch.Tensor, mask: torch.Tensor, total: Callable[[torch.Tensor], torch.Tensor] = lambda x: x
) -> torch.Tensor:
    """(values − mean) / deviation over the True positions of all ranks.

    Args:
        values: (B, T).
        mask: (B, T).
        total: sums a tensor over the ranks.

    Returns:
        (B, T), 0 where the mask is False.
    """
    wide = values.double() * mask
    count, first = total(torch.stack([mask.sum().double(), wide.sum()]))
    mean = first / count.clamp(min=1)
    (second,) = total((((values.double() - mean) * mask) ** 2).sum().reshape(1))
    deviation = (second / count.clamp(min=1)).sqrt()
    return ((values - mean) / (deviation + 1e-8)).to(values.dtype) * mask


@dataclass(frozen=True)
class Loss:
    """A loss summed over tokens, with the number of tokens where its clip was active."""

    summed: torch.Tensor
    clipped: torch.Tensor


def policy_loss(
    log_probs: torch.Tensor,
    old_log_probs: torch.Tensor,
    advantages: torch.Tensor,
    mask: torch.Tensor,
    *,
    clip: float,
) -> Loss:
    """Σ max(−A ρ, −A clip(ρ, 1 − clip, 1 + clip)) with ρ = π / π_old, over the True positions.

    All tensors are (B, T); ``clipped`` counts the tokens whose second term is the larger.
    """
    difference = ((log_probs - old_log_probs) * mask).clamp(-LOG_RATIO_BOUND, LOG_RATIO_BOUND)
    ratio = difference.exp()
    free = -advantages * ratio
    bounded = -advantages * ratio.clamp(1 - clip, 1 + clip)
    return Loss((torch.maximum(free, bounded) * mask).sum(), ((bounded > free) & mask).sum())


def value_loss(
    values: torch.Tensor, old_values: torch.Tensor, returns: torch.Tensor, mask: torch.Tensor, *, clip: float
) -> Loss:
    """½ Σ max((V − R)², (V_old + clip(V − V_old, −clip, clip) − R)²) over the True positions; all (B, T)."""
    bounded = old_values + (values - old_values).clamp(-clip, clip)
    free_error, bounded_error = (values - returns) ** 2, (bounded - returns) ** 2
    summed = 0.5 * (torch.maximum(free_error, bounded_error) * mask).sum()
    return Loss(summed, ((bounded_error > free_error) & mask).sum())


def explained_variance(values: torch.Tensor, returns: torch.Tensor, mask: torch.Tensor) -> float:
    """1 − Var(returns − values) / Var(returns) over the True positions; 0 where returns do not vary."""
    if int(mask.sum()) < 2:
        return 0.0
    seen_returns, errors = returns[mask].double(), (returns - values)[mask].double()
    variance = seen_returns.var(unbiased=False)
    return float(1 - errors.var(unbiased=False) / variance) if variance > 0 else 0.0
