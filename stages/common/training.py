"""The loop that sft, reward and dpo share: batches, steps, evaluations, checkpoints, stop requests."""

from __future__ import annotations

import math
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import torch

from rlhfc.kind import TrainParams

from .best import Best
from .checkpoints import Checkpoints
from .engines import descend, learning_rate
from .job import Batch, Job, StageError
from .metrics import Metrics
from .ranks import Ranks
from .rows import RowOrder, by_length, count_steps
from .tokenfiles import TokenFile


@dataclass(frozen=True)
class Objective:
    """What a stage learns.

    Attributes:
        weigh: weight of one row in the mean of a batch, from its segment lengths: tokens that are
            learnt, or 1 for a pair.
        loss: summed loss of a micro-batch of row numbers.
        evaluate: figures over the evaluation rows; called on every rank.
    """

    weigh: Callable[[int], float]
    loss: Callable[[Sequence[int]], torch.Tensor]
    evaluate: Callable[[], dict[str, float]]


def in_step(
    batches: Sequence[list[int]], ranks: Ranks, beat: Callable[[], None]
) -> Iterator[tuple[list[int], bool]]:
    """Micro-batches of this rank, and dummies until the rank with the most is done; beats before each.

    Under ZeRO 3 every forward needs every rank. A dummy is row 0 and does not count (False).
    """
    longest = ranks.max(len(batches))
    for place in range(longest):
        beat()
        yield (batches[place], True) if place < len(batches) else ([0], False)


def plan_steps(params: TrainParams, batch: Batch, rows: int) -> int:
    """Optimiser steps of the whole stage.

    Raises:
        StageError: there are fewer rows than one global batch holds.
    """
    if rows < batch.whole:
        raise StageError(
            f"{rows} training rows do not fill one global batch of {batch.whole}",
            f"set global_batch_size to {max(1, rows)} or less, or give this part more rows",
        )
    return count_steps(rows, params.epochs, batch.whole, params.max_steps)


@dataclass(frozen=True)
class Ended:
    """How a training ended.

    Attributes:
        step: the last that was taken; fewer than planned where `best.patience` was exhausted.
        figures: of the evaluation of the weights that are left, and how the stage was resumed where that
            is worth telling.
    """

    step: int
    figures: dict[str, float | str]


class Trainer:
    """Runs an objective to its last step, from the newest checkpoint if there is one."""

    def __init__(
        self,
        job: Job[Any],
        ranks: Ranks,
        engine: Any,
        rows: TokenFile,
        objective: Objective,
        *,
        held_out: int,
    ) -> None:
        assert job.batch is not None
        self.job, self.ranks, self.engine, self.objective = job, ranks, engine, objective
        self.batch: Batch = job.batch
        self.params: TrainParams = job.params
        self.total = plan_steps(self.params, self.batch, len(rows))
        self.lengths = rows.lengths()
        self.order = RowOrder(len(rows), self.params.seed)
        self.best = Best(self.params.best, self.total)
        if self.params.best is not None and not held_out:
            raise StageError(
                "`best` chooses by held-out rows, and `data` has none",
                "leave out `best`, or raise `eval_fraction` of the split",
            )
        self.checkpoints = Checkpoints(job, ranks, {"train": engine}, self.total, {"best": self.best})

    def run(self) -> Ended:
        """Train; the engine has the weights to leave when this returns.

        Raises:
            Interrupted: the stop file appeared; a checkpoint is saved.
            OSError: a checkpoint could not be written.
        """
        done = self.checkpoints.resume()
        metrics = Metrics(self.job.paths["metrics"] if self.ranks.first else None, resumed_at=done)
        if not done:
            self._evaluate(metrics, 0)
        started, first = time.monotonic(), done
        for step in range(done + 1, self.total + 1):
            loss, norm = self._step(step - 1)
            if step % self.params.log_every == 0 or step == self.total:
                speed = (step - first) * self.batch.whole / (time.monotonic() - started)
                metrics.write(
                    step=step,
                    total=self.total,
                    phase="train",
                    loss=loss,
                    learning_rate=learning_rate(self.engine),
                    gradient_norm=norm,
                    samples_per_second=speed,
                )
            figures = self._evaluate_if_due(metrics, step)
            if step == self.total or self.best.exhausted:
                break
            self.checkpoints.after_step(step, best=self.best.step)
        self.checkpoints.finish()
        return self._ended(step, figures)

    def _evaluate_if_due(self, metrics: Metrics, step: int) -> dict[str, float]:
        """Figures after a step, where somebody wants them."""
        decides, every = self.best.due(step), self.params.eval_every
        if not (decides or step == self.total or (every and step % every == 0)):
            return {}
        figures = self._evaluate(metrics, step)
        if decides:
            self.best.take(step, figures)
        return figures

    def _ended(self, step: int, figures: dict[str, float]) -> Ended:
        """Go back to the best weights, where these are not the last.

        Raises:
            StageError: no evaluation has given a number.
        """
        told: dict[str, float | str] = {**figures, **self.checkpoints.summary()}
        if self.params.best is None:
            return Ended(step, told)
        if self.best.step is None:
            raise StageError(
                f"no evaluation gave a number for `{self.params.best.by}`, so no weights are the best",
                "lower learning_rate, or use bf16 or fp32",
            )
        if self.best.step != step:
            self.checkpoints.return_to(self.best.step)
        return Ended(step, told | self.best.figures | {"best_step": self.best.step})

    def _step(self, index: int) -> tuple[float, float]:
        """One optimiser step; returns mean loss and gradient norm of the global batch.

        Raises:
            StageError: the loss is not finite.
        """
        rows = self.order.batch(index, self.batch.whole)
        weight = sum(self.objective.weigh(row) for row in rows)
        mine = [rows[place] for place in self.ranks.share(len(rows))]
        summed = 0.0
        self.engine.train()
        micros = by_length(mine, self.lengths, self.batch.micro)
        norm = 0.0
        for place, micro in enumerate(micros):
            self.job.beat()
            loss = self.objective.loss(micro)
            # Gradients are averaged over ranks; the mean is over the weight of the whole global batch.
            share = loss * (self.ranks.world / weight)
            norm = descend(self.engine, share, last=place == len(micros) - 1) or norm
            summed += float(loss.detach())
        total = self.ranks.sum(torch.tensor(summed, dtype=torch.float64, device=self.ranks.device))
        mean = float(total) / weight
        if not math.isfinite(mean):
            raise StageError(
                f"the loss became {mean} at step {index + 1}",
                "lower learning_rate, or use bf16 or fp32; the last checkpoint is kept",
            )
        return mean, norm

    def _evaluate(self, metrics: Metrics, step: int) -> dict[str, float]:
        self.engine.eval()
        with torch.no_grad():
            figures = self.objective.evaluate()
        metrics.write(step=step, total=self.total, phase="eval", **figures)
        return figures
