"""The candidate against the baseline on held-out prompts.

Both answer the same prompts with the same draws. Each judge compares the two answers prompt by prompt:
win rate is (wins + ties / 2) / prompts with a Wilson interval. The judges are the reward model, which
training has optimised against, and those of the spec, which it has never seen.
"""

from __future__ import annotations

import gc
import json
import math
from dataclasses import dataclass
from typing import Any

import numpy as np
from transformers import PreTrainedTokenizerBase

from ..common.job import Job, StageError, run_stage, write_json
from ..common.metrics import Metrics
from ..common.models import load_causal_lm, load_reward_model
from ..common.modules import Policy, Scorer
from ..common.ranks import Ranks, start_ranks
from ..common.rollout import Decoding
from ..common.rows import Purpose
from ..common.tokenfiles import TokenFile
from ..common.tokenizers import filler_id, load_tokenizer, stop_ids, vocabulary_digest
from .judging import Answer, load_judge, side_metrics, win_rate
from .kind import KIND, EvaluateParams
from .measuring import Bench

FORMAT = 1
SIDES = ("baseline", "candidate")
REWARD_MODEL = "reward_model"


@dataclass
class Findings:
    """What one rank has found, or all together; lists are in the order of the prompts.

    Attributes:
        reference_loss: by side, Σ −log p of the wanted responses.
        reference_tokens: how many tokens those have.
    """

    prompts: list[np.ndarray]
    answers: dict[str, list[Answer]]
    reference_loss: dict[str, float]
    reference_tokens: int

    @classmethod
    def of_all(cls, parts: list[Any]) -> Findings:
        """Join the findings of the ranks."""
        return cls(
            prompts=[ids for part in parts for ids in part.prompts],
            answers={side: [a for part in parts for a in part.answers[side]] for side in SIDES},
            reference_loss={side: sum(part.reference_loss[side] for part in parts) for side in SIDES},
            reference_tokens=sum(part.reference_tokens for part in parts),
        )

    def metrics(self) -> dict[str, dict[str, float]]:
        """Name to the value of each side."""
        sides = {side: side_metrics(self.answers[side]) for side in SIDES}
        for side in SIDES if self.reference_tokens else ():
            mean = self.reference_loss[side] / self.reference_tokens
            sides[side]["reference_perplexity"] = math.exp(min(mean, 80.0))
        return {name: {side: sides[side][name] for side in SIDES} for name in sides["baseline"]}


def check_tokenizers(job: Job[EvaluateParams]) -> PreTrainedTokenizerBase:
    """The one tokenizer of all three models.

    Raises:
        StageError: they have different vocabularies.
    """
    loaded = [load_tokenizer(job.inputs[name]) for name in (*SIDES, REWARD_MODEL)]
    if len({vocabulary_digest(tokenizer) for tokenizer in loaded}) > 1:
        raise StageError(
            "baseline, candidate and reward_model do not share one tokenizer",
            "evaluate models that come from one `data_split` stage",
        )
    return loaded[0]


def set_up(job: Job[EvaluateParams], tokenizer: PreTrainedTokenizerBase, ranks: Ranks) -> Bench:
    """The held-out prompts of this rank.

    Raises:
        StageError: there are too few.
    """
    rows = TokenFile(job.inputs["prompts"].path, "eval")
    count = min(job.params.max_prompts, len(rows))
    if count < max(2, ranks.world):
        raise StageError(
            f"{len(rows)} held-out prompts are too few for {ranks.world} ranks",
            "give `data_split` more rows or a larger eval_fraction",
        )
    mine = list(ranks.share(count))
    return Bench(
        prompts=[rows[row][0] for row in mine],
        references=[rows[row][1] for row in mine] if len(rows.segments) > 1 else [],
        numbers=mine,
        micro=job.params.micro_batch_size,
        filler=filler_id(tokenizer),
        device=ranks.device,
        beat=job.beat,
    )


def measure(job: Job[EvaluateParams], bench: Bench, tokenizer: PreTrainedTokenizerBase) -> Findings:
    """Let both sides answer, and every judge score."""
    params = job.params
    stops = frozenset(stop_ids(tokenizer, params.stop_token_ids))
    decoding = Decoding(
        params.max_response_tokens,
        params.temperature,
        stops,
        bench.filler,
        params.seed,
        Purpose.EVALUATION_DRAW,
    )
    policies = {
        side: Policy(load_causal_lm(job.inputs[side], dtype=params.dtype)).eval().to(bench.device)
        for side in SIDES
    }
    answers = {
        side: [Answer(response) for response in bench.answer(policies[side], decoding)] for side in SIDES
    }
    losses = dict.fromkeys(SIDES, 0.0)
    for side, other in (SIDES, SIDES[::-1]):
        ids = [one.response.ids for one in answers[side]]
        own = bench.log_probs(policies[side], ids, params.temperature or 1.0)
        others = bench.log_probs(policies[other], ids, params.temperature or 1.0)
        for one, mine, theirs in zip(answers[side], own, others, strict=True):
            one.log_prob, one.other_log_prob = mine, theirs
        if bench.references:
            losses[side] = -sum(bench.log_probs(policies[side], bench.references, 1.0))
    del policies
    gc.collect()
    score(job, bench, tokenizer, answers)
    return Findings(bench.prompts, answers, losses, sum(len(ids) for ids in bench.references))


def score(
    job: Job[EvaluateParams],
    bench: Bench,
    tokenizer: PreTrainedTokenizerBase,
    answers: dict[str, list[Answer]],
) -> None:
    """Fill in texts and every judge's scores."""
    model = load_reward_model(job.inputs[REWARD_MODEL], dtype=job.params.dtype)
    scorer = Scorer(model).eval().to(bench.device)
    judges = {
        judge.name: load_judge(judge.name, job.inputs[f"judges.{place}.code"].full)
        for place, judge in enumerate(job.params.judges)
    }
    prompts = [tokenizer.decode(ids.tolist(), skip_special_tokens=True) for ids in bench.prompts]
    for side in SIDES:
        scores = bench.scores(scorer, [one.response.ids for one in answers[side]])
        for prompt, one, reward in zip(prompts, answers[side], scores, strict=True):
            one.text = tokenizer.decode(one.response.ids.tolist(), skip_special_tokens=True)
            one.scores = {REWARD_MODEL: reward}
            one.scores |= {name: float(judge(prompt, one.text)) for name, judge in judges.items()}


def write_report(
    job: Job[EvaluateParams], tokenizer: PreTrainedTokenizerBase, found: Findings
) -> dict[str, float]:
    """Write ``evaluation.json`` and ``samples.jsonl``; returns the summary."""
    judges = list(found.answers["baseline"][0].scores)
    rates = {
        judge: win_rate(
            *([one.scores[judge] for one in found.answers[side]] for side in SIDES), job.params.confidence
        )
        for judge in judges
    }
    metrics, folder = found.metrics(), job.outputs["report"]
    record = {"format": FORMAT, "confidence": job.params.confidence, "win_rate": rates, "metrics": metrics}
    write_json(folder / "evaluation.json", record)
    lines = (
        {
            "prompt": tokenizer.decode(prompt.tolist(), skip_special_tokens=True),
            **{side: found.answers[side][place].text for side in SIDES},
            "scores": {j: {side: found.answers[side][place].scores[j] for side in SIDES} for j in judges},
        }
        for place, prompt in enumerate(found.prompts)
    )
    text = "".join(json.dumps(line, ensure_ascii=False) + "\n" for line in lines)
    (folder / "samples.jsonl").write_text(text, encoding="utf-8")
    summary = {f"win_rate_{judge}": rate["win"] for judge, rate in rates.items()}
    summary |= {f"win_rate_{judge}_low": rate["low"] for judge, rate in rates.items()}
    return summary | {"kl_to_baseline": metrics["kl_to_other"]["candidate"]}


def main(job: Job[EvaluateParams]) -> None:
    """Answer, judge, write."""
    ranks = start_ranks(threads=job.params.threads, seed=job.params.seed)
    tokenizer = check_tokenizers(job)
    mine = measure(job, set_up(job, tokenizer, ranks), tokenizer)
    found = Findings.of_all(ranks.gather(mine))
    if ranks.first:
        summary = write_report(job, tokenizer, found)
        Metrics(job.paths["metrics"]).write(step=1, total=1, phase="eval", **summary)
        job.write_manifest(step=1, total=1, summary=summary)
    ranks.leave()


if __name__ == "__main__":
    run_stage(KIND, EvaluateParams, main)
