"""Models in and out: causal language models and reward models, whole or sharded, with adapters."""

from __future__ import annotations

import contextlib
import logging
import math
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import deepspeed
import torch
from peft import LoraConfig, inject_adapter_in_model
from peft.tuners.lora import LoraLayer
from torch import nn
from transformers import (
    AutoConfig,
    AutoModelForCausalLM,
    AutoModelForSequenceClassification,
    GgufConfig,
    PreTrainedConfig,
    PreTrainedModel,
)
from transformers.integrations import HfDeepSpeedConfig

from rlhfc.kind import EngineParams, LoraParams

from .job import InputPath, StageError

log = logging.getLogger(__name__)

DTYPES = {"fp32": torch.float32, "bf16": torch.bfloat16, "fp16": torch.float16}
DROPOUTS = (
    "dropout",
    "attention_dropout",
    "hidden_dropout",
    "activation_dropout",
    "resid_pdrop",
    "attn_pdrop",
    "embd_pdrop",
)
HEADS = ("lm_head", "score")
# Settings with which a model does something to its logits after the head. `Policy` applies the head alone.
SCALED_LOGITS = ("final_logit_softcapping", "logit_scale", "logits_scaling", "lm_head_multiplier")


@contextlib.contextmanager
def _sharded_loading(config: Mapping[str, Any] | None) -> Iterator[None]:
    """Let ``from_pretrained`` split parameters over the ranks as it loads them (ZeRO 3)."""
    if config is None or config["zero_optimization"]["stage"] != 3:
        yield
        return
    keep_alive = HfDeepSpeedConfig(dict(config))
    yield
    del keep_alive


def load_causal_lm(
    source: InputPath,
    *,
    dtype: str,
    deepspeed_config: Mapping[str, Any] | None = None,
    dropout: float | None = None,
) -> PreTrainedModel:
    """Load a causal language model from a folder or a GGUF file.

    Raises:
        StageError: weights are missing from the folder, or the architecture scales its logits.
    """
    model = _load(AutoModelForCausalLM, source, dtype, deepspeed_config, dropout, fresh=())
    scaled = [name for name in SCALED_LOGITS if getattr(model.config, name, None) not in (None, 1, 1.0)]
    if scaled:
        raise StageError(
            f"{model.config.model_type} changes its logits after the head ({', '.join(scaled)}), "
            "which is not supported",
            "use a model whose head gives the logits, such as Llama, Mistral, Qwen, OPT or GPT-2",
        )
    return model


def load_reward_model(
    source: InputPath,
    *,
    dtype: str,
    deepspeed_config: Mapping[str, Any] | None = None,
    dropout: float | None = None,
    new_head: bool = False,
    seed: int = 0,
) -> PreTrainedModel:
    """Load a sequence classifier with one label, its score head new (drawn from ``seed``) or as saved.

    A new head is drawn from N(0, 1/(h + 1)), h the hidden size (Stiennon et al. 2020), so that first
    scores are of order one whatever the width.

    Raises:
        StageError: the head was to be as saved and the folder has none.
    """
    model = _load(
        AutoModelForSequenceClassification,
        source,
        dtype,
        deepspeed_config,
        dropout,
        fresh=("score.weight",) if new_head else (),
        num_labels=1,
    )
    if new_head:
        _draw_head(model.score.weight, seed)
    model.score.__class__ = WideLinear
    return model


class WideLinear(nn.Linear):
    """A linear layer in fp32 whatever its weights are in: bf16 scores would be 0.03 apart at 5.

    Its own forward, so that ZeRO 3's hooks gather the weight around it.
    """

    def forward(self, input: torch.Tensor) -> torch.Tensor:
        """(…, in) of any type to (…, out) fp32."""
        bias = self.bias.float() if self.bias is not None else None
        return nn.functional.linear(input.float(), self.weight.float(), bias)


def _draw_head(head: nn.Parameter, seed: int) -> None:
    """Draw on the CPU from a generator of its own: the same head on every rank, device and ZeRO stage."""
    with gathered([head]):
        draw = torch.randn(head.shape, generator=torch.Generator().manual_seed(seed))
        head.copy_(draw / math.sqrt(head.shape[-1] + 1))


def _load(
    auto: Any,
    source: InputPath,
    dtype: str,
    deepspeed_config: Mapping[str, Any] | None,
    dropout: float | None,
    *,
    fresh: tuple[str, ...],
    **options: Any,
) -> PreTrainedModel:
    gguf = {"gguf_file": source.file} if source.file else {}
    config = _configuration(source, gguf, options)
    if not source.file:
        _require_safetensors(source.path)
    if source.file:
        # Packed blocks cannot be trained, so they are unpacked whatever kernels are installed.
        gguf["quantization_config"] = GgufConfig(gguf_file=source.file, dequantize=True)
    if dropout is not None:
        for name in DROPOUTS:
            if hasattr(config, name):
                setattr(config, name, dropout)
    with _sharded_loading(deepspeed_config):
        model, report = auto.from_pretrained(
            source.path,
            config=config,
            dtype=DTYPES[dtype],
            output_loading_info=True,
            trust_remote_code=False,
            use_safetensors=None if source.file else True,
            **gguf,
        )
    missing = sorted(set(report["missing_keys"]) - set(fresh))
    if missing:
        raise StageError(
            f"{source.full} lacks weights: {', '.join(missing[:5])}{' …' if len(missing) > 5 else ''}",
            f"give a folder that was saved as a {auto.__name__.removeprefix('AutoModelFor')} "
            "of the same architecture",
        )
    unexpected = sorted(report["unexpected_keys"])
    if unexpected:
        log.warning("weights not used: %s", ", ".join(unexpected))
    if source.file:
        _forget_quantisation(model)
    return model


def _configuration(
    source: InputPath, gguf: Mapping[str, str], options: Mapping[str, Any]
) -> PreTrainedConfig:
    """Configuration of a model whose architecture transformers itself has.

    Raises:
        StageError: it brings code of its own, or transformers does not know it.
    """
    try:
        return AutoConfig.from_pretrained(source.path, trust_remote_code=False, **gguf, **options)
    except ValueError as error:
        if source.file is None and "auto_map" in (source.path / "config.json").read_text(encoding="utf-8"):
            raise StageError(
                f"`{source.path}` brings modelling code of its own (`auto_map`), which rlhfc does not run",
                "use a model that transformers has the architecture of",
            ) from error
        raise StageError(
            f"transformers cannot tell what model `{source.full}` is: {str(error).splitlines()[0]}",
            "the folder needs the `config.json` of a causal language model",
        ) from error


def _require_safetensors(folder: Path) -> None:
    """Refuse weights that are pickles.

    Raises:
        StageError: the folder has such, and none as safetensors.
    """
    pickled = sorted(path.name for path in folder.glob("*.bin"))
    if pickled and not any(folder.glob("*.safetensors")):
        raise StageError(
            f"`{folder}` has its weights in `{pickled[0]}`, a pickle, and none as safetensors",
            "save it again with `save_pretrained`, or name a commit that has safetensors",
        )


def _forget_quantisation(model: PreTrainedModel) -> None:
    """Drop the marks of a quantised file: the weights are ordinary tensors now, to be trained and saved."""
    for mark in ("hf_quantizer", "quantization_method"):
        model.__dict__.pop(mark, None)
    model.is_quantized = False
    if hasattr(model.config, "quantization_config"):
        del model.config.quantization_config


def is_sharded(parameter: nn.Parameter) -> bool:
    """Whether ZeRO 3 holds only a part of ``parameter`` on this rank."""
    return hasattr(parameter, "ds_id")


@contextlib.contextmanager
def gathered(parameters: list[nn.Parameter], *, write: bool = True) -> Iterator[None]:
    """Whole tensors inside the block, under ZeRO 3 too; with ``write``, rank 0's values stay."""
    sharded = [parameter for parameter in parameters if is_sharded(parameter)]
    if not sharded:
        with torch.no_grad():
            yield
        return
    with deepspeed.zero.GatheredParameters(sharded, modifier_rank=0 if write else None), torch.no_grad():
        yield


def add_lora(model: PreTrainedModel, lora: LoraParams) -> None:
    """Freeze ``model`` and put trainable adapters on its linear layers; heads named ``score`` stay trainable.

    Raises:
        StageError: ``targets`` matches no layer.
    """
    linear = [name for name, module in model.named_modules() if isinstance(module, nn.Linear)]
    linear = [name for name in linear if name.rsplit(".", 1)[-1] not in HEADS]
    if lora.targets == "all-linear":
        targets = linear
    else:
        targets = [name for name in linear if name.rsplit(".", 1)[-1] in lora.targets or name in lora.targets]
    if not targets:
        known = ", ".join(sorted({name.rsplit(".", 1)[-1] for name in linear}))
        raise StageError(f"lora.targets {lora.targets} match no layer", f"this model has {known}")
    inject_adapter_in_model(
        LoraConfig(
            r=lora.rank,
            lora_alpha=lora.alpha if lora.alpha is not None else 2 * lora.rank,
            lora_dropout=lora.dropout,
            target_modules=targets,
        ),
        model,
    )
    for name, parameter in model.named_parameters():
        parameter.requires_grad_("lora_" in name or name.startswith("score."))


def prepare(model: PreTrainedModel, how: EngineParams) -> None:
    """Give a model that is to be trained its adapters and activation checkpointing."""
    if how.lora is not None:
        add_lora(model, how.lora)
    if how.gradient_checkpointing:
        model.gradient_checkpointing_enable(gradient_checkpointing_kwargs={"use_reentrant": False})


def full_state(model: PreTrainedModel, *, keep: bool) -> dict[str, torch.Tensor]:
    """Whole weights on the CPU with adapters merged, for ranks that say ``keep``; others get {}.

    Every rank must call this: under ZeRO 3 each tensor is gathered in turn, so that no rank holds more
    than one whole tensor on its device at a time. Tied weights appear once.
    """
    state: dict[str, torch.Tensor] = {}
    tied = set(getattr(model, "all_tied_weights_keys", None) or ())
    adapters = {name: module for name, module in model.named_modules() if isinstance(module, LoraLayer)}
    for name, parameter in model.named_parameters():
        if "lora_" in name or name in tied:
            continue
        module_name, _, leaf = name.rpartition(".")
        owner = adapters.get(module_name.removesuffix(".base_layer")) if leaf == "weight" else None
        update = [p for n, p in owner.named_parameters() if "lora_" in n] if owner else []
        with gathered([parameter, *update], write=False):
            if keep:
                whole = parameter.detach()
                if owner is not None:
                    delta = owner.get_delta_weight(owner.active_adapters[0])
                    whole = (whole.float() + delta.float()).to(parameter.dtype)
                state[name.replace(".base_layer.", ".")] = whole.to("cpu", copy=True).contiguous()
    if keep:
        for name, buffer in model.named_buffers():
            if _is_persistent(model, name):
                state[name] = buffer.detach().to("cpu", copy=True).contiguous()
    return state


def _is_persistent(model: nn.Module, name: str) -> bool:
    module_name, _, leaf = name.rpartition(".")
    return leaf not in model.get_submodule(module_name)._non_persistent_buffers_set


def save_model(model: PreTrainedModel, folder: Path, *, first: bool) -> None:
    """Save whole weights as safetensors with the config; called on every rank, written on the first."""
    state = full_state(model, keep=first)
    if not first:
        return
    config = type(model.config).from_dict(model.config.to_dict())
    config._name_or_path = ""  # a path of this machine would make equal results differ
    with torch.device("meta"):
        shell = type(model)(config)
    shell.generation_config = getattr(model, "generation_config", None)
    shell.to(next(iter(state.values())).dtype)
    shell.save_pretrained(folder, state_dict=state)
