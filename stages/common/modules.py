"""What the engines wrap: one forward for each use, so that ZeRO 3's hooks see every call."""

from __future__ import annotations

from typing import Any

import torch
from torch import nn
from transformers import PreTrainedModel

from .losses import token_log_probs


class Policy(nn.Module):
    """A causal language model whose head is applied only where a result is wanted."""

    def __init__(self, model: PreTrainedModel) -> None:
        super().__init__()
        self.model = model

    def forward(
        self,
        ids: torch.Tensor,
        mask: torch.Tensor,
        positions: torch.Tensor,
        *,
        select: torch.Tensor | None = None,
        cache: Any = None,
        use_cache: bool = False,
    ) -> tuple[torch.Tensor, Any]:
        """Logits at the selected positions.

        Args:
            ids: (B, L).
            mask: (B, L + cached) bool, False at padding.
            positions: (B, L) position of each id in its row, padding not counted.
            select: (B, S) indices into L; None selects the last.
            cache: keys and values of earlier calls.
            use_cache: whether to return them.

        Returns:
            ((B, S, V) logits, cache).
        """
        output = self.model.base_model(
            input_ids=ids,
            attention_mask=mask,
            position_ids=positions,
            past_key_values=cache,
            use_cache=use_cache,
        )
        hidden = output.last_hidden_state
        if select is None:
            chosen = hidden[:, -1:]
        else:
            chosen = hidden.gather(1, select.unsqueeze(-1).expand(-1, -1, hidden.shape[-1]))
        return self.model.get_output_embeddings()(chosen), output.past_key_values if use_cache else None


class Scorer(nn.Module):
    """A sequence classifier with one label, read at every token: (B, L) fp32 scores or values.

    Args:
        model: the classifier.
        mean: subtracted from what it says …
        deviation: … before this divides it: a critic that starts from the reward model then speaks of
            normalised scores, as its returns do.
    """

    def __init__(self, model: PreTrainedModel, mean: float = 0.0, deviation: float = 1.0) -> None:
        super().__init__()
        self.model, self.mean, self.deviation = model, mean, deviation

    def forward(self, ids: torch.Tensor, mask: torch.Tensor) -> torch.Tensor:
        """Score of each prefix; ``ids`` and ``mask`` are (B, L), right-padded."""
        output = self.model.base_model(
            input_ids=ids, attention_mask=mask, position_ids=row_positions(mask), use_cache=False
        )
        return (self.model.score(output.last_hidden_state).squeeze(-1) - self.mean) / self.deviation


def row_positions(mask: torch.Tensor) -> torch.Tensor:
    """Position of each token in its row, from the (B, L) attention mask; padding gets 0 or the last."""
    return (mask.long().cumsum(dim=1) - 1).clamp(min=0)


def response_positions(starts: torch.Tensor, width: int, length: int) -> torch.Tensor:
    """(B, width) positions whose hidden state predicts response tokens 0 … width - 1.

    Args:
        starts: (B,) prompt lengths in a right-padded batch.
        width: T.
        length: L, the batch's width; positions beyond it are clipped (the response mask is False there).
    """
    offsets = torch.arange(width, device=starts.device)
    return (starts[:, None] - 1 + offsets).clamp(max=length - 1)


def response_log_probs(
    policy: nn.Module,
    ids: torch.Tensor,
    mask: torch.Tensor,
    starts: torch.Tensor,
    responses: torch.Tensor,
    temperature: float,
) -> torch.Tensor:
    """Log-probability of each response token: (B, T) fp32.

    Args:
        policy: a :class:`Policy`, or the engine around one.
        ids: (B, L) prompt and response, right-padded.
        mask: (B, L).
        starts: (B,) prompt lengths.
        responses: (B, T) response ids, right-padded with any id.
        temperature: the one that sampling used.
    """
    logits = _response_logits(policy, ids, mask, starts, responses.shape[1])
    return token_log_probs(logits, responses, temperature)


@torch.no_grad()
def response_choices(
    policy: nn.Module,
    ids: torch.Tensor,
    mask: torch.Tensor,
    starts: torch.Tensor,
    responses: torch.Tensor,
    temperature: float,
) -> tuple[torch.Tensor, torch.Tensor]:
    """As :func:`response_log_probs` without gradient, and the entropy of each choice, both (B, T) fp32."""
    logits = _response_logits(policy, ids, mask, starts, responses.shape[1])
    full = (logits.float() / temperature).log_softmax(-1)
    return token_log_probs(logits, responses, temperature), -(full.exp() * full).sum(-1)


def _response_logits(
    policy: nn.Module, ids: torch.Tensor, mask: torch.Tensor, starts: torch.Tensor, width: int
) -> torch.Tensor:
    select = response_positions(starts, width, ids.shape[1])
    logits: torch.Tensor = policy(ids, mask, row_positions(mask), select=select)[0]
    return logits
