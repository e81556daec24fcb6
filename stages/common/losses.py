"""Losses of SFT, the reward model and DPO: pure functions of tensors, one equation each.

B rows, L positions, V tokens of the vocabulary. All reductions are in fp32.
"""

from __future__ import annotations

import torch
import torch.nn.functional as F  # noqa: N812 - its usual name


def token_log_probs(logits: torch.Tensor, tokens: torch.Tensor, temperature: float = 1.0) -> torch.Tensor:
    """Return log softmax(logits / temperature) at ``tokens``, in fp32.

    Args:
        logits: (B, L, V), any floating type.
        tokens: (B, L) ids.
        temperature: the one that sampling used; otherwise ratios are of another policy.

    Returns:
        (B, L) fp32.
    """
    scaled = logits.float() / temperature
    return scaled.gather(-1, tokens.unsqueeze(-1)).squeeze(-1) - scaled.logsumexp(-1)


def summed_cross_entropy(logits: torch.Tensor, tokens: torch.Tensor, mask: torch.Tensor) -> torch.Tensor:
    """−Σ mask · log p(token): the caller divides by the tokens of the global batch.

    Dividing by the tokens of a micro-batch instead would weigh rows by how they were cut into
    micro-batches (transformers#34191).

    Args:
        logits: (B, L, V); position t predicts ``tokens[:, t]``.
        tokens: (B, L) ids.
        mask: (B, L) bool, True where a token is learnt.
    """
    return -(token_log_probs(logits, tokens) * mask).sum()


def summed_preference_loss(
    chosen: torch.Tensor, rejected: torch.Tensor, *, centering: float = 0.0, label_smoothing: float = 0.0
) -> torch.Tensor:
    """−Σ [(1 − ε) log σ(d) + ε log σ(−d)] + centering · Σ (chosen + rejected)², with d = chosen − rejected.

    Bradley-Terry; ε as in Mitchell's conservative DPO (2023); centring as in Eisenstein et al. (2023).

    Args:
        chosen: (B,) fp32 scores at the last real token, or rewards.
        rejected: (B,) likewise.
        centering: weight of the second term; it leaves differences free and pulls the mean to 0.
        label_smoothing: ε, the share of pairs taken to be the wrong way round.
    """
    difference = chosen - rejected
    loss = -(1 - label_smoothing) * F.logsigmoid(difference).sum()
    if label_smoothing:
        loss = loss - label_smoothing * F.logsigmoid(-difference).sum()
    return loss + centering * ((chosen + rejected) ** 2).sum() if centering else loss


def summed_token_ranking_loss(
    chosen: torch.Tensor, rejected: torch.Tensor, starts: torch.Tensor, ends: torch.Tensor
) -> torch.Tensor:
    """Σ over pairs of the mean of −log σ(chosen − rejected) at positions starts … ends − 1: DeepSpeed-Chat's.

    From the first token that differs to the longer end, padding of the shorter side included.

    Args:
        chosen: (B, L) fp32 score of each prefix.
        rejected: (B, L) likewise.
        starts: (B,) first position that differs; that of an identical pair is the last one.
        ends: (B,) the longer side's length.
    """
    places = torch.arange(chosen.shape[1], device=chosen.device)
    counted = (places >= starts[:, None]) & (places < ends[:, None])
    losses = -F.logsigmoid(chosen - rejected) * counted
    return (losses.sum(dim=1) / counted.sum(dim=1)).sum()


def summed_ipo_loss(chosen: torch.Tensor, rejected: torch.Tensor, beta: float) -> torch.Tensor:
    """Σ ((chosen − rejected) / β − 1 / (2β))² (Azar et al. 2023, equation 17, τ = β).

    Args:
        chosen: (B,) fp32 rewards β · (log π − log π_ref), a mean over the response's tokens.
        rejected: (B,) likewise.
        beta: the β of these rewards.
    """
    return (((chosen - rejected) / beta - 1 / (2 * beta)) ** 2).sum()
