"""The candidate against the baseline on held-out prompts.

Both answer the same prompts with the same draws. Each judge compares the two answers prompt by prompt:
win rate is (wins + ties / 2) / prompts with a Wilson interval. The judges are the reward model, which
training has optimised against, and those of the spec, which it has never seen.
"""

from __future__ import annotations

import gc
import importlib.util
import json
import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
import torch
from transformers import PreTrainedTokenizerBase

from ..common.experience import pad_pairs
from ..common.job import InputPath, Job, StageError, run_stage, write_json
from ..common.metrics import Metrics
from ..common.models import load_causal_lm, load_reward_model
from ..common.modules import Policy, Scorer, response_log_probs
from ..common.ranks import Ranks, start_ranks
from ..common.rollout import Decoding, Response, respond
from ..common.rows import by_length
from ..common.statistics import wilson_interval
from ..common.tokenfiles import TokenFile
from ..common.tokenizers import filler_id, load_tokenizer, stop_ids, vocabulary_digest
from .kind import KIND, EvaluateParams

FORMAT = 1
SIDES = ("baseline", "candidate")
REWARD_MODEL = "reward_model"


@dataclass
class Answer:
    """One side's answer to one prompt."""

    response: Response
    log_prob: float = 0.0
    other_log_prob: float = 0.0
    text: str = ""
    scores: dict[str, float] = field(default_factory=dict)


@dataclass(frozen=True)
class Bench:
    """What every measurement needs: prompts of this rank, batching, device."""

    prompts: list[np.ndarray]
    references: list[np.ndarray]
    numbers: list[int]
    micro: int
    filler: int
    device: torch.device

    def groups(self, extra: Sequence[int]) -> list[list[int]]:
        """Places of the prompts in micro-batches of like length; ``extra`` are the responses' lengths."""
        lengths = np.array([len(p) + e for p, e in zip(self.prompts, extra, strict=True)], dtype=np.int64)
        return by_length(range(len(self.prompts)), lengths, self.micro)


def answer(policy: Policy, bench: Bench, decoding: Decoding) -> list[Answer]:
    """Answer every prompt of this rank."""
    answers: dict[int, Answer] = {}
    for group in bench.groups([0] * len(bench.prompts)):
        responses = respond(
            policy,
            [bench.prompts[place] for place in group],
            [bench.numbers[place] for place in group],
            decoding,
            device=bench.device,
            all_done=bool,
        )
        answers |= {place: Answer(response) for place, response in zip(group, responses, strict=True)}
    return [answers[place] for place in range(len(bench.prompts))]


@torch.no_grad()
def log_probs(
    policy: Policy, bench: Bench, responses: Sequence[np.ndarray], temperature: float
) -> list[float]:
    """Σ log p of each response's tokens, given its prompt."""
    sums: dict[int, float] = {}
    for group in bench.groups([len(response) for response in responses]):
        chosen = [responses[place] for place in group]
        batch = pad_pairs([bench.prompts[place] for place in group], chosen, bench.filler, bench.device)
        tokens, _ = response_log_probs(
            policy, batch.ids, batch.mask, batch.starts, batch.responses, temperature or 1.0
        )
        summed = (tokens * batch.response_mask).sum(dim=1)
        sums |= {place: float(value) for place, value in zip(group, summed, strict=True)}
    return [sums[place] for place in range(len(responses))]


@torch.no_grad()
def reward_scores(scorer: Scorer, bench: Bench, responses: Sequence[np.ndarray]) -> list[float]:
    """The reward model's score of each response."""
    scores: dict[int, float] = {}
    for group in bench.groups([len(response) for response in responses]):
        chosen = [responses[place] for place in group]
        batch = pad_pairs([bench.prompts[place] for place in group], chosen, bench.filler, bench.device)
        ends = scorer(batch.ids, batch.mask).gather(1, batch.ends.unsqueeze(1)).squeeze(1)
        scores |= {place: float(value) for place, value in zip(group, ends, strict=True)}
    return [scores[place] for place in range(len(responses))]


def load_judge(name: str, path: Path) -> Callable[[str, str], float]:
    """The function ``score`` of a judge's file.

    Raises:
        StageError: the file cannot be run or has no such function.
    """
    found = importlib.util.spec_from_file_location(f"rlhfc_judge_{name}", path)
    assert found is not None
    assert found.loader is not None
    module = importlib.util.module_from_spec(found)
    try:
        found.loader.exec_module(module)
    except Exception as error:
        raise StageError(
            f"judge `{name}`: {path} fails: {error!r}", "run the file with Python to see where"
        ) from error
    score = getattr(module, "score", None)
    if not callable(score):
        raise StageError(
            f"judge `{name}`: {path} has no function `score`",
            "define `score(prompt: str, response: str) -> float`",
        )
    return score


def distinct_bigrams(texts: Sequence[str]) -> float:
    """Different word pairs over all word pairs: near 0 when answers repeat themselves or each other."""
    pairs = [pair for text in texts for pair in zip(text.split(), text.split()[1:], strict=False)]
    return len(set(pairs)) / len(pairs) if pairs else 0.0


def win_rate(baseline: Sequence[float], candidate: Sequence[float], confidence: float) -> dict[str, float]:
    """Wins of the candidate, ties as half, with a Wilson interval."""
    wins = sum(c > b for b, c in zip(baseline, candidate, strict=True))
    losses = sum(c < b for b, c in zip(baseline, candidate, strict=True))
    prompts = len(baseline)
    ties = prompts - wins - losses
    low, high = wilson_interval(wins + ties / 2, prompts, confidence)
    share = (wins + ties / 2) / prompts
    return {
        "win": share,
        "low": low,
        "high": high,
        "wins": wins,
        "losses": losses,
        "ties": ties,
        "prompts": prompts,
    }


def side_metrics(answers: Sequence[Answer]) -> dict[str, float]:
    """Means over one side's answers."""
    names = answers[0].scores
    means = {f"{name}_score": float(np.mean([a.scores[name] for a in answers])) for name in names}
    return means | {
        "response_length": float(np.mean([len(a.response.ids) for a in answers])),
        "stopped_share": float(np.mean([a.response.stopped for a in answers])),
        "distinct_bigrams": distinct_bigrams([a.text for a in answers]),
        # Σ log p − log p_other, averaged over own samples: an unbiased estimate of KL(this ‖ other).
        "kl_to_other": float(np.mean([a.log_prob - a.other_log_prob for a in answers])),
    }


class Evaluation:
    """Answers, scores and figures of both sides."""

    def __init__(self, job: Job[EvaluateParams], ranks: Ranks) -> None:
        self.job, self.params, self.ranks = job, job.params, ranks
        self.tokenizer: PreTrainedTokenizerBase = load_tokenizer(InputPath(job.inputs["baseline"].path))
        self._check_tokenizers()
        rows = TokenFile(job.inputs["prompts"].path, "eval")
        self.count = min(self.params.max_prompts, len(rows))
        if self.count < max(2, ranks.world):
            raise StageError(
                f"{len(rows)} held-out prompts are too few",
                "give `data_split` more rows or a larger eval_fraction",
            )
        mine = list(ranks.share(self.count))
        self.bench = Bench(
            [rows[row][0] for row in mine],
            [rows[row][1] for row in mine] if len(rows.segments) > 1 else [],
            mine,
            self.params.micro_batch_size,
            filler_id(self.tokenizer),
            ranks.device,
        )
        stops = frozenset(stop_ids(self.tokenizer, self.params.stop_token_ids))
        self.decoding = Decoding(
            self.params.max_response_tokens,
            self.params.temperature,
            stops,
            self.bench.filler,
            self.params.seed,
        )
        self.reference_loss: dict[str, float] = {}

    def _check_tokenizers(self) -> None:
        digests = {
            name: vocabulary_digest(load_tokenizer(InputPath(self.job.inputs[name].path)))
            for name in (*SIDES, REWARD_MODEL)
        }
        if len(set(digests.values())) > 1:
            raise StageError(
                "baseline, candidate and reward_model do not share one tokenizer",
                "evaluate models that come from one `data_split` stage",
            )

    def measure(self) -> dict[str, list[Answer]]:
        """Answers of both sides to this rank's prompts, scored by every judge."""
        policies = {side: self._policy(side) for side in SIDES}
        sides = {side: answer(policies[side], self.bench, self.decoding) for side in SIDES}
        for side, other in (SIDES, SIDES[::-1]):
            ids = [a.response.ids for a in sides[side]]
            own = log_probs(policies[side], self.bench, ids, self.params.temperature)
            others = log_probs(policies[other], self.bench, ids, self.params.temperature)
            for one, mine, theirs in zip(sides[side], own, others, strict=True):
                one.log_prob, one.other_log_prob = mine, theirs
            if self.bench.references:
                total = -sum(log_probs(policies[side], self.bench, self.bench.references, 1.0))
                self.reference_loss[side] = total
        del policies
        gc.collect()
        self._score(sides)
        return sides

    def _policy(self, side: str) -> Policy:
        model = load_causal_lm(self.job.inputs[side], dtype=self.params.dtype)
        return Policy(model).eval().to(self.bench.device)  # type: ignore[no-any-return]

    def _score(self, sides: dict[str, list[Answer]]) -> None:
        model = load_reward_model(self.job.inputs[REWARD_MODEL], dtype=self.params.dtype)
        scorer = Scorer(model).eval().to(self.bench.device)
        judges = {
            judge.name: load_judge(judge.name, self.job.inputs[f"judges.{place}.code"].full)
            for place, judge in enumerate(self.params.judges)
        }
        prompts = [
            self.tokenizer.decode(ids.tolist(), skip_special_tokens=True) for ids in self.bench.prompts
        ]
        for answers in sides.values():
            scores = reward_scores(scorer, self.bench, [a.response.ids for a in answers])
            for prompt, one, score in zip(prompts, answers, scores, strict=True):
                one.text = self.tokenizer.decode(one.response.ids.tolist(), skip_special_tokens=True)
                one.scores = {REWARD_MODEL: score}
                one.scores |= {name: float(judge(prompt, one.text)) for name, judge in judges.items()}

    def gather(
        self, sides: dict[str, list[Answer]]
    ) -> tuple[list[np.ndarray], dict[str, list[Answer]], dict[str, float]]:
        """(prompts, answers by side, perplexity by side) of all ranks."""
        parts = self.ranks.gather(
            (self.bench.prompts, sides, self.reference_loss, sum(map(len, self.bench.references)))
        )
        prompts = [ids for part in parts for ids in part[0]]  # type: ignore[index]
        whole = {side: [a for part in parts for a in part[1][side]] for side in SIDES}  # type: ignore[index]
        tokens = sum(part[3] for part in parts)  # type: ignore[index]
        losses = {side: sum(part[2].get(side, 0.0) for part in parts) for side in SIDES}  # type: ignore[index]
        perplexity = (
            {side: math.exp(min(loss / tokens, 80.0)) for side, loss in losses.items()} if tokens else {}
        )
        return prompts, whole, perplexity


def write_report(
    job: Job[EvaluateParams], evaluation: Evaluation, sides: dict[str, list[Answer]]
) -> dict[str, float]:
    """Write ``evaluation.json`` and ``samples.jsonl`` on the first rank; returns the summary."""
    prompts, whole, perplexity = evaluation.gather(sides)
    judges = list(whole["baseline"][0].scores)
    rates = {
        judge: win_rate(*([a.scores[judge] for a in whole[side]] for side in SIDES), job.params.confidence)
        for judge in judges
    }
    metrics = {side: side_metrics(whole[side]) for side in SIDES}
    for side, value in perplexity.items():
        metrics[side]["reference_perplexity"] = value
    by_name = {name: {side: metrics[side][name] for side in SIDES} for name in metrics["baseline"]}
    if evaluation.ranks.first:
        folder = job.outputs["report"]
        record = {
            "format": FORMAT,
            "confidence": job.params.confidence,
            "win_rate": rates,
            "metrics": by_name,
        }
        write_json(folder / "evaluation.json", record)
        lines = (
            {
                "prompt": evaluation.tokenizer.decode(prompt.tolist(), skip_special_tokens=True),
                **{side: whole[side][place].text for side in SIDES},
                "scores": {j: {side: whole[side][place].scores[j] for side in SIDES} for j in judges},
            }
            for place, prompt in enumerate(prompts)
        )
        text = "".join(json.dumps(line, ensure_ascii=False) + "\n" for line in lines)
        (folder / "samples.jsonl").write_text(text, encoding="utf-8")
    summary = {f"win_rate_{judge}": rate["win"] for judge, rate in rates.items()}
    summary |= {f"win_rate_{judge}_low": rate["low"] for judge, rate in rates.items()}
    return summary | {"kl_to_baseline": by_name["kl_to_other"]["candidate"]}


def main(job: Job[EvaluateParams]) -> None:
    """Answer, judge, write."""
    ranks = start_ranks(threads=job.params.threads, seed=job.params.seed)
    evaluation = Evaluation(job, ranks)
    summary = write_report(job, evaluation, evaluation.measure())
    if ranks.first:
        Metrics(job.paths["metrics"]).write(step=1, total=1, phase="eval", **summary)
        job.write_manifest(step=1, total=1, summary=summary)
    ranks.barrier()


if __name__ == "__main__":
    run_stage(KIND, EvaluateParams, main)
