"""Bradley-Terry reward model on preference pairs.

Where this departs from DeepSpeed-Chat's step 2:

* a response's score is read at its last real token, found by its length, never by searching for pad;
* the loss compares those two scores only (upstream ranks every token from the first difference to the
  longer end, padding included; ``loss: deepspeed_chat`` does so too);
* saved as a sequence classifier with one label, which other tools load.
"""

from __future__ import annotations

from functools import partial

from transformers import PreTrainedModel, PreTrainedTokenizerBase

from ..common.fitting import Setting, fit
from ..common.job import Job, run_stage
from ..common.losses import summed_preference_loss
from ..common.models import load_reward_model
from ..common.modules import Scorer
from ..common.pairs import Judged, judge_pairs, preference_figures
from ..common.tokenizers import filler_id
from ..common.training import Objective
from .kind import KIND, RewardParams
from .report import write_report
from .scores import PairScores


def main(job: Job[RewardParams]) -> None:
    """Train, evaluate, save."""
    params = job.params

    def load(tokenizer: PreTrainedTokenizerBase) -> PreTrainedModel:
        config = job.deepspeed["train"]
        model = load_reward_model(
            job.inputs["model"],
            dtype=params.dtype,
            deepspeed_config=config,
            dropout=params.dropout,
            new_head=True,
            seed=params.seed,
        )
        model.config.pad_token_id = filler_id(tokenizer)
        return model

    end_loss = partial(summed_preference_loss, centering=params.centering)

    def figures_of(setting: Setting) -> tuple[Judged, dict[str, float]]:
        scores = PairScores(setting.engine, setting.held_out, setting.filler, setting.ranks.device)
        judged = judge_pairs(scores, setting)
        return judged, preference_figures(judged, end_loss, "score")

    def objective(setting: Setting) -> Objective:
        learnt = PairScores(setting.engine, setting.train, setting.filler, setting.ranks.device)
        by_token = params.loss == "deepspeed_chat"
        return Objective(
            weigh=lambda _: 1.0,
            loss=learnt.ranked_by_token if by_token else lambda rows: end_loss(*learnt(rows)),
            evaluate=lambda: figures_of(setting)[1],
        )

    def describe(setting: Setting) -> None:
        judged, figures = figures_of(setting)
        if setting.ranks.first:
            write_report(job.outputs["model"], judged, figures)

    fit(job, load=load, wrap=Scorer, objective=objective, describe=describe)


if __name__ == "__main__":
    run_stage(KIND, RewardParams, main)
