"""From experience to optimiser steps: rewards, advantages, minibatches, both losses."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch

from . import rl
from .engines import descend
from .experience import PaddedPairs, Row, pad_pairs, response_values
from .four_models import FourModels
from .job import StageError
from .modules import response_log_probs
from .ranks import Ranks
from .rows import Purpose, by_length, generator


@dataclass(frozen=True)
class Rules:
    """The constants of PPO; see the fields of the same names in ``stages/ppo/kind.py``."""

    kl_coef: float = 0.1
    gamma: float = 1.0
    gae_lambda: float = 0.95
    policy_clip: float = 0.2
    value_clip: float = 0.2
    reward_clip: float = 5.0
    missing_eos_penalty: float = 0.0
    whiten_advantages: bool = True
    temperature: float = 1.0
    score_mean: float = 0.0
    score_deviation: float = 1.0


@dataclass(frozen=True)
class Targets:
    """What the update aims at: (B, T) tensors on the CPU, right-padded, rows in the experience's order."""

    mask: torch.Tensor
    log_probs: torch.Tensor
    values: torch.Tensor
    advantages: torch.Tensor
    returns: torch.Tensor
    rewards: torch.Tensor
    scores: torch.Tensor
    kl: torch.Tensor


def _stack(parts: Sequence[np.ndarray], width: int) -> torch.Tensor:
    stacked = np.zeros((len(parts), width), dtype=np.float32)
    for place, part in enumerate(parts):
        stacked[place, : len(part)] = part
    return torch.from_numpy(stacked)


def aim(rows: Sequence[Row], rules: Rules) -> Targets:
    """Normalise scores, add the KL penalty, and estimate advantages over the whole global batch."""
    lengths = torch.tensor([len(row.response) for row in rows])
    width = int(lengths.max())
    mask = torch.arange(width)[None, :] < lengths[:, None]
    log_probs = _stack([row.log_probs for row in rows], width)
    kl = rl.kl_k1(log_probs, _stack([row.reference for row in rows], width)) * mask
    values = _stack([row.values for row in rows], width)
    scores = torch.tensor([row.score for row in rows])
    scores = (scores - rules.score_mean) / rules.score_deviation
    cut_off = torch.tensor([not row.stopped for row in rows])
    scores = rl.bounded_scores(
        scores, cut_off, reward_clip=rules.reward_clip, penalty=rules.missing_eos_penalty
    )
    rewards = rl.shaped_rewards(scores, kl, mask, kl_coef=rules.kl_coef)
    advantages, returns = rl.advantages_and_returns(
        rewards, values, mask, gamma=rules.gamma, lam=rules.gae_lambda
    )
    if rules.whiten_advantages:
        advantages = rl.whiten(advantages, mask)
    return Targets(mask, log_probs, values, advantages, returns, rewards, scores, kl)


class Updater:
    """Optimiser steps of actor and critic over one experience."""

    def __init__(
        self,
        models: FourModels,
        rules: Rules,
        ranks: Ranks,
        *,
        micro: int,
        filler: int,
        beat: Callable[[], None],
    ) -> None:
        self.models, self.rules, self.ranks = models, rules, ranks
        self.micro, self.filler, self.beat = micro, filler, beat

    def minibatch(self, rows: Sequence[Row], targets: Targets, chosen: Sequence[int]) -> dict[str, float]:
        """One step of each engine on the rows ``chosen``; the figures are those of the whole minibatch.

        Raises:
            StageError: a loss is not finite, on any rank.
        """
        tokens = float(targets.mask[list(chosen)].sum())
        mine = [chosen[place] for place in self.ranks.share(len(chosen))]
        lengths = np.array([len(row.prompt) + len(row.response) for row in rows])
        micros = by_length(mine, lengths, self.micro)
        totals = torch.zeros(5, dtype=torch.float64, device=self.ranks.device)
        for place, micro in enumerate(micros):
            self.beat()
            last = place == len(micros) - 1
            batch = pad_pairs(
                [rows[row].prompt for row in micro],
                [rows[row].response for row in micro],
                self.filler,
                self.ranks.device,
            )
            actor, approximate_kl, actor_norm = self._actor(batch, targets, micro, tokens, last)
            critic, critic_norm = self._critic(batch, targets, micro, tokens, last)
            figures = [actor.summed, critic.summed, actor.clipped, critic.clipped, approximate_kl]
            totals += torch.tensor([float(figure.detach()) for figure in figures], device=self.ranks.device)
        names = ("actor_loss", "critic_loss", "policy_clip_share", "value_clip_share", "update_kl")
        figures_by_name = dict(zip(names, (self.ranks.sum(totals) / tokens).tolist(), strict=True))
        self._refuse_infinite(figures_by_name)
        return figures_by_name | {"actor_gradient_norm": actor_norm, "critic_gradient_norm": critic_norm}

    def _actor(
        self, batch: PaddedPairs, targets: Targets, micro: list[int], tokens: float, last: bool
    ) -> tuple[rl.Loss, torch.Tensor, float]:
        engine, width = self.models.actor, batch.responses.shape[1]
        old, advantages, mask = self._cut(width, micro, targets.log_probs, targets.advantages, targets.mask)
        log_probs = response_log_probs(
            engine, batch.ids, batch.mask, batch.starts, batch.responses, self.rules.temperature
        )
        loss = rl.policy_loss(log_probs, old, advantages, mask, clip=self.rules.policy_clip)
        norm = self._descend(engine, loss.summed, tokens, last)
        return loss, (rl.kl_k3(old, log_probs.detach()) * mask).sum(), norm

    def _critic(
        self, batch: PaddedPairs, targets: Targets, micro: list[int], tokens: float, last: bool
    ) -> tuple[rl.Loss, float]:
        engine, width = self.models.critic, batch.responses.shape[1]
        old, returns, mask = self._cut(width, micro, targets.values, targets.returns, targets.mask)
        loss = rl.value_loss(response_values(engine, batch), old, returns, mask, clip=self.rules.value_clip)
        return loss, self._descend(engine, loss.summed, tokens, last)

    def _cut(self, width: int, micro: list[int], *parts: torch.Tensor) -> tuple[torch.Tensor, ...]:
        return tuple(part[micro, :width].to(self.ranks.device) for part in parts)

    def _descend(self, engine: Any, summed: torch.Tensor, tokens: float, last: bool) -> float:
        # Gradients are averaged over ranks; the mean is over the tokens of the whole minibatch.
        return descend(engine, summed * (self.ranks.world / tokens), last=last) or 0.0

    @staticmethod
    def _refuse_infinite(figures: dict[str, float]) -> None:
        wrong = [name for name, value in figures.items() if not math.isfinite(value)]
        if wrong:
            raise StageError(
                f"{', '.join(wrong)} became infinite or not a number",
                "lower the learning rate of that model, or use bf16 or fp32; the last checkpoint is kept",
            )


def minibatches(rows: int, size: int, *, seed: int, step: int, ppo_epoch: int) -> list[list[int]]:
    """A shuffle of the experience of ``step``, cut into minibatches; each row once."""
    order = generator(seed, step, Purpose.MINIBATCHES, ppo_epoch).permutation(rows)
    return [order[start : start + size].tolist() for start in range(0, rows, size)]
