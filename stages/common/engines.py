"""DeepSpeed engines: a trainable one with its optimiser and schedule, a frozen one without."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import deepspeed
import torch
from torch import nn
from transformers import get_scheduler

from .job import StageError
from .unpickling import load_weights_only

NO_DECAY = ("bias", "norm", "ln_")


@dataclass(frozen=True)
class Optimisation:
    """AdamW and its schedule, in optimiser steps."""

    learning_rate: float
    weight_decay: float
    betas: tuple[float, float]
    schedule: str
    warmup_steps: int
    total_steps: int


def parameter_groups(model: nn.Module, weight_decay: float) -> list[dict[str, Any]]:
    """Trainable parameters in two groups: matrices decay; biases and normalisation weights do not."""
    groups: dict[bool, list[nn.Parameter]] = {True: [], False: []}
    for name, parameter in model.named_parameters():
        if parameter.requires_grad:
            groups[not any(part in name.lower() for part in NO_DECAY)].append(parameter)
    return [
        {"params": parameters, "weight_decay": weight_decay if decays else 0.0}
        for decays, parameters in groups.items()
        if parameters
    ]


def trainable_engine(module: nn.Module, config: Mapping[str, Any], how: Optimisation) -> Any:
    """A DeepSpeed engine around ``module`` with AdamW and a schedule that steps with it."""
    load_weights_only()
    groups = parameter_groups(module, how.weight_decay)
    optimiser: torch.optim.Optimizer
    if "offload_optimizer" in config["zero_optimization"]:
        from deepspeed.ops.adam import DeepSpeedCPUAdam  # compiled on first use

        optimiser = DeepSpeedCPUAdam(groups, lr=how.learning_rate, betas=how.betas)
    else:
        optimiser = torch.optim.AdamW(groups, lr=how.learning_rate, betas=how.betas, fused=True)
    schedule = get_scheduler(
        how.schedule, optimiser, num_warmup_steps=how.warmup_steps, num_training_steps=how.total_steps
    )
    engine, *_ = deepspeed.initialize(
        model=module,
        optimizer=optimiser,
        lr_scheduler=schedule,
        config=dict(config),
        dist_init_required=False,
    )
    return engine


def frozen_module(module: nn.Module, config: Mapping[str, Any], device: torch.device) -> nn.Module:
    """``module`` for reading only: on the device as it is, or sharded under ZeRO 3."""
    module.requires_grad_(False)
    module.eval()
    if config["zero_optimization"]["stage"] == 3:
        engine, *_ = deepspeed.initialize(model=module, config=dict(config), dist_init_required=False)
        sharded: nn.Module = engine.module
        return sharded.eval()
    return module.to(device)


def learning_rate(engine: Any) -> float:
    """The rate that the next optimiser step uses."""
    return float(engine.optimizer.param_groups[0]["lr"])


def descend(engine: Any, loss: torch.Tensor, *, last: bool) -> float | None:
    """Backward of one micro-batch, and with ``last`` the optimiser step.

    Args:
        engine: a trainable engine.
        loss: this micro-batch's share of the global batch's mean, times the number of ranks, since
            DeepSpeed averages gradients over ranks. It is not scaled again by the accumulation.
        last: whether this micro-batch completes the global batch.

    Returns:
        With ``last``, the L2 norm of the global batch's gradient before clipping.

    Raises:
        StageError: the gradient is not finite and nothing would skip the step; alike on all ranks.
    """
    engine.set_gradient_accumulation_boundary(last)
    engine.backward(loss, scale_wrt_gas=False)
    # Without ZeRO and in fp32 the gradients are whole here, and DeepSpeed does not tell their norm.
    plain = isinstance(engine.optimizer, torch.optim.Optimizer)
    norm = nn.utils.get_total_norm(_gradients(engine)) if last and plain else None
    if norm is not None and not norm.isfinite():
        # DeepSpeed's own wrappers skip such a step; this one would put it into the weights.
        raise StageError(
            "the gradient became infinite or not a number",
            "lower the learning rate; the last checkpoint is kept",
        )
    engine.step()
    if not last:
        return None
    return float(norm if norm is not None else engine.get_global_grad_norm())


def _gradients(engine: Any) -> list[torch.Tensor]:
    return [parameter.grad for parameter in engine.module.parameters() if parameter.grad is not None]
