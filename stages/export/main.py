"""Entry point of ``export``: a folder that plain transformers loads, with nothing of ours installed."""

from __future__ import annotations

from collections.abc import Iterable

import torch
from transformers import GenerationConfig, PreTrainedModel, PreTrainedTokenizerBase

from ..common.job import Job, StageError, run_stage
from ..common.models import load_causal_lm, save_model
from ..common.rendering import install_template
from ..common.tokenizers import filler_id, load_tokenizer, save_tokenizer, stop_ids
from .card import Exported, render_card
from .kind import KIND, ExportParams


def main(job: Job[ExportParams]) -> None:
    """Load, convert, describe, save."""
    torch.set_num_threads(job.params.threads)
    folder = job.outputs["model"]
    tokenizer = load_tokenizer(job.inputs["model"])
    if not tokenizer.chat_template:
        install_template(tokenizer, "plain")  # a model that never saw a chat
    model = load_causal_lm(job.inputs["model"], dtype=job.params.dtype)
    _require_fit(model, tokenizer, job.params.dtype)
    ends = stop_ids(tokenizer, [*_own_ends(model), *job.params.stop_token_ids])
    model.generation_config = _generation(tokenizer, ends, job.params)
    save_model(model, folder, first=True)
    save_tokenizer(tokenizer, folder)
    size = sum(parameter.numel() for parameter in model.parameters())
    card = render_card(job, Exported(type(model).__name__, size, ends))
    (folder / "README.md").write_text(card, encoding="utf-8")
    job.write_manifest(step=1, total=1, summary={"parameters": size, "dtype": job.params.dtype})


def _require_fit(model: PreTrainedModel, tokenizer: PreTrainedTokenizerBase, dtype: str) -> None:
    """Refuse what would load elsewhere and then fail or speak nonsense."""
    rows = model.get_input_embeddings().weight.shape[0]
    if len(tokenizer) > rows:
        raise StageError(
            f"the tokenizer has {len(tokenizer)} tokens and the model embeds {rows}",
            "export the model with the tokenizer that it was trained with",
        )
    broken = [name for name, weight in model.named_parameters() if not torch.isfinite(weight).all()]
    if broken:
        raise StageError(
            f"weights are not finite in {dtype}: {', '.join(broken[:3])}",
            "fp16 ends at 65504: export as bf16 or fp32"
            if dtype == "fp16"
            else "the model diverged in training",
        )


def _own_ends(model: PreTrainedModel) -> Iterable[int]:
    """Ids at which the model stopped before: one, several or none."""
    own = model.generation_config.eos_token_id if model.generation_config is not None else None
    return own if isinstance(own, list) else [] if own is None else [own]


def _generation(
    tokenizer: PreTrainedTokenizerBase, ends: list[int], params: ExportParams
) -> GenerationConfig:
    """How responses are drawn by default: as they were in training, from the whole distribution."""
    sampling = {"temperature": params.temperature, "top_k": 0, "top_p": 1.0} if params.temperature else {}
    return GenerationConfig(
        do_sample=bool(params.temperature),
        **sampling,
        max_new_tokens=params.max_response_tokens,
        bos_token_id=tokenizer.bos_token_id,
        eos_token_id=ends if len(ends) > 1 else ends[0],
        pad_token_id=filler_id(tokenizer),
    )


if __name__ == "__main__":
    run_stage(KIND, ExportParams, main)
