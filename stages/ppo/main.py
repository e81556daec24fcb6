"""PPO: rollout, score, KL penalty, advantages, clipped updates of actor and critic.

Where this departs from DeepSpeed-Chat's step 3 (each with a test):

* responses are sampled, and log-probabilities are taken at the sampling temperature (upstream: greedy
  for Llama);
* the score is added to the last action, the end-of-sequence token where there is one (upstream: the
  slot after it);
* masks are explicit; nothing is computed from padding, so a response that is cut off or empty of
  words cannot give an empty minibatch;
* old log-probabilities, values and all targets are computed once, in evaluation mode, before the first
  update (upstream: dropout on, advantages anew at every pass);
* advantages are whitened over the global batch.
"""

from __future__ import annotations

import json
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np

from rlhfc.kind import EngineParams

from ..common import rl
from ..common.checkpoints import RESUMED_OTHERWISE, Checkpoints
from ..common.engines import Optimisation, learning_rate
from ..common.experience import Row, collect
from ..common.four_models import ROLES, FourModels, load_four
from ..common.job import InputPath, Job, StageError, run_stage
from ..common.metrics import Metrics
from ..common.models import save_model
from ..common.ranks import Ranks, start_ranks
from ..common.rollout import Decoding
from ..common.rows import RowOrder, count_steps
from ..common.tokenfiles import TokenFile
from ..common.tokenizers import filler_id, load_tokenizer, save_tokenizer, stop_ids
from ..common.update import Rules, Targets, Updater, aim, minibatches
from .kind import KIND, PpoParams


def optimisations(params: PpoParams, steps: int) -> dict[str, Optimisation]:
    """Optimiser settings of actor and critic; ``steps`` are rollout steps."""
    per_rollout = params.ppo_epochs * (
        params.rollout_batch_size // (params.minibatch_size or params.rollout_batch_size)
    )

    def of(rate: float, decay: float) -> Optimisation:
        betas = (params.betas[0], params.betas[1])
        return Optimisation(rate, decay, betas, params.schedule, params.warmup_steps, steps * per_rollout)

    return {
        "actor": of(params.actor_learning_rate, params.actor_weight_decay),
        "critic": of(params.critic_learning_rate, params.critic_weight_decay),
    }


def rules_of(params: PpoParams, record: dict[str, Any]) -> Rules:
    """The constants of PPO from the stage's parameters and the engines' record."""
    return Rules(
        kl_coef=params.kl_coef,
        gamma=params.gamma,
        gae_lambda=params.gae_lambda,
        policy_clip=params.policy_clip,
        value_clip=params.value_clip,
        reward_clip=params.reward_clip,
        missing_eos_penalty=params.missing_eos_penalty,
        whiten_advantages=params.whiten_advantages,
        temperature=params.sampling.temperature,
        score_mean=record["score_mean"],
        score_deviation=record["score_deviation"],
    )


def describe(rows: Sequence[Row], targets: Targets) -> dict[str, float]:
    """Figures of one experience, before the update: means over rows (``score``, lengths) or tokens."""
    mask = targets.mask
    reference = targets.log_probs - targets.kl
    lengths = mask.sum(dim=1).float()
    return {
        "score": float(np.mean([row.score for row in rows])),
        "reward": float(targets.rewards.sum(dim=1).mean()),
        "kl": float(targets.kl.sum(dim=1).mean()),
        "kl_k2": float((rl.kl_k2(targets.log_probs, reference) * mask).sum(dim=1).mean()),
        "kl_k3": float((rl.kl_k3(targets.log_probs, reference) * mask).sum(dim=1).mean()),
        "entropy": float(np.concatenate([row.entropy for row in rows]).mean()),
        "response_length": float(lengths.mean()),
        "response_length_p95": float(lengths.quantile(0.95)),
        "stopped_share": float(np.mean([row.stopped for row in rows])),
        "explained_variance": rl.explained_variance(targets.values, targets.returns, mask),
    }


class Loop:
    """Rollout steps from the newest checkpoint to the last."""

    def __init__(
        self, job: Job[PpoParams], ranks: Ranks, models: FourModels, rules: Rules, tokenizer: Any
    ) -> None:
        assert job.batch is not None
        self.job, self.params, self.ranks, self.models, self.rules = job, job.params, ranks, models, rules
        self.tokenizer = tokenizer
        self.prompts = TokenFile(job.inputs["prompts"].path, "train")
        self.order = RowOrder(len(self.prompts), self.params.seed)
        filler = filler_id(tokenizer)
        self.updater = Updater(models, rules, ranks, micro=job.batch.micro, filler=filler, beat=job.beat)
        sampling = self.params.sampling
        stops = frozenset(stop_ids(tokenizer, sampling.stop_token_ids))
        self.decoding = Decoding(
            sampling.max_response_tokens, sampling.temperature, stops, filler, self.params.seed
        )

    def run(self, total: int) -> dict[str, float | str]:
        """Run to step ``total``; returns the figures of the last step, and how it was resumed.

        Raises:
            Interrupted: the stop file appeared; a checkpoint is saved.
            OSError: a checkpoint could not be written.
        """
        checkpoints = Checkpoints(self.job, self.ranks, self.models.trained, total)
        done = checkpoints.resume()
        metrics = Metrics(self.job.paths["metrics"] if self.ranks.first else None, resumed_at=done)
        figures: dict[str, float] = {}
        for step in range(done + 1, total + 1):
            rows, figures = self._step(step)
            if step % self.params.log_every == 0 or step in (1, total):
                metrics.write(step=step, total=total, phase="train", **figures)
            if step % self.params.sample_every == 0 or step == 1:
                self._show(metrics, step, total, rows)
            if step < total:
                checkpoints.after_step(step)
        checkpoints.finish()
        return figures | checkpoints.summary()

    def _step(self, step: int) -> tuple[list[Row], dict[str, float]]:
        params, clock = self.params, time.monotonic
        started = clock()
        chosen = self.order.batch(step - 1, params.rollout_batch_size)
        first = (step - 1) * params.rollout_batch_size
        rows = collect(
            self.models,
            [self.prompts[row][0] for row in chosen],
            range(first, first + len(chosen)),
            self.decoding,
            ranks=self.ranks,
            generate_at_once=params.generation_batch_size or len(chosen),
            score_at_once=self.updater.micro,
            beat=self.job.beat,
        )
        collected = clock()
        targets = aim(rows, self.rules)
        self.models.training()
        updates = [
            self.updater.minibatch(rows, targets, minibatch)
            for ppo_epoch in range(params.ppo_epochs)
            for minibatch in minibatches(
                len(rows),
                params.minibatch_size or len(rows),
                seed=params.seed,
                step=step,
                ppo_epoch=ppo_epoch,
            )
        ]
        figures = describe(rows, targets)
        figures |= {name: float(np.mean([update[name] for update in updates])) for name in updates[0]}
        figures |= {
            "actor_learning_rate": learning_rate(self.models.actor),
            "critic_learning_rate": learning_rate(self.models.critic),
            "rollout_seconds": collected - started,
            "update_seconds": clock() - collected,
            "samples_per_second": len(rows) / (clock() - started),
        }
        return rows, figures

    def _show(self, metrics: Metrics, step: int, total: int, rows: list[Row]) -> None:
        """Log the best and the worst response of the step."""
        ordered = sorted(rows, key=lambda row: row.score)
        for rank, row in (("worst", ordered[0]), ("best", ordered[-1])):
            metrics.write(
                step=step,
                total=total,
                phase="sample",
                rank=rank,
                prompt=self.tokenizer.decode(row.prompt.tolist()),
                response=self.tokenizer.decode(row.response.tolist()),
                score=row.score,
            )


def main(job: Job[PpoParams]) -> None:
    """Train the actor, save actor and critic."""
    params, engines = job.params, job.inputs["engines"].path
    ranks = start_ranks(threads=params.threads, seed=params.seed)
    record = json.loads((engines / "engines.json").read_text(encoding="utf-8"))
    prompts = len(TokenFile(job.inputs["prompts"].path, "train"))
    if prompts < params.rollout_batch_size:
        raise StageError(
            f"{prompts} prompts do not fill one rollout of {params.rollout_batch_size}",
            f"set rollout_batch_size to {max(1, prompts)} or less, or give the prompts part more rows",
        )
    total = count_steps(prompts, params.epochs, params.rollout_batch_size, params.max_steps)
    models = load_four(
        InputPath(engines / "actor"),
        InputPath(engines / "reward"),
        settings={role: EngineParams.model_validate(job.settings["engines"][role]) for role in ROLES},
        deepspeed=job.deepspeed,
        optimisation=optimisations(params, total),
        ranks=ranks,
        seed=params.seed,
        normalisation=(record["score_mean"], record["score_deviation"]),
    )
    tokenizer = load_tokenizer(InputPath(engines / "actor"))
    figures = Loop(job, ranks, models, rules_of(params, record), tokenizer).run(total)
    save(job, ranks, models, tokenizer)
    if ranks.first:
        kept = ("score", "reward", "kl", "response_length", "stopped_share", "entropy", RESUMED_OTHERWISE)
        summary = {name: value for name, value in figures.items() if name in kept}
        job.write_manifest(step=total, total=total, summary=summary)
    ranks.leave()


def save(job: Job[PpoParams], ranks: Ranks, models: FourModels, tokenizer: Any) -> None:
    """Save actor and critic as ordinary models."""
    outputs: dict[str, Path] = dict(job.outputs)
    for port, engine in (("actor", models.actor), ("critic", models.critic)):
        save_model(engine.module.model, outputs[port], first=ranks.first)
        if ranks.first:
            save_tokenizer(tokenizer, outputs[port])


if __name__ == "__main__":
    run_stage(KIND, PpoParams, main)
