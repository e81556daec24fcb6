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
    """A sequence classifier with one label, read at every token: (B, L) fp32 scores or values."""

    def __init__(self, model: PreTrainedModel) -> None:
        super().__init__()
        self.model = model

    def forward(self, ids: torch.Tensor, mask: torch.Tensor) -> torch.Tensor:
        """Score of each prefix; ``ids`` and ``mask`` are (B, L), right-padded."""
        output = self.model.base_model(
            input_ids=ids, attention_mask=mask, position_ids=row_positions(mask), use_cache=False
        )
        return self.model.score(output.last_hidden_state).squeeze(-1).float()


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
) -> tuple[torch.Tensor, torch.Tensor]:
    """Log-probability of each response token, and the entropy of each choice, both (B, T) fp32.

    Args:
        policy: a :class:`Policy`, or the engine around one.
        ids: (B, L) prompt and response, right-padded.
        mask: (B, L).
        starts: (B,) prompt lengths.
        responses: (B, T) response ids, right-padded with any id.
        temperature: the one that sampling used.
    """
    select = response_positions(starts, responses.shape[1], ids.shape[1])
    logits, _ = policy(ids, mask, row_positions(mask), select=select)
    log_probs = token_log_probs(logits, responses, temperature)
    with torch.no_grad():
        full = (logits.float() / temperature).log_softmax(-1)
        entropy = -(full.exp() * full).sum(-1)
    return log_probs, entropy
