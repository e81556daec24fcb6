"""What a checkpoint may hold besides tensors and plain values: the classes that DeepSpeed puts into it.

Every stage runs under ``TORCH_FORCE_WEIGHTS_ONLY_LOAD=1``, which overrules DeepSpeed's own
``torch.load(weights_only=False)``. Without it, a checkpoint in a store from elsewhere could run code.
"""

from __future__ import annotations

import os

import torch
from deepspeed.runtime.fp16.loss_scaler import DynamicLossScaler, LossScaler
from deepspeed.runtime.zero.config import ZeroStageEnum
from deepspeed.utils.tensor_fragment import fragment_address

VARIABLE = "TORCH_FORCE_WEIGHTS_ONLY_LOAD"
# Plain records: unpickling one sets its attributes and calls nothing.
KNOWN = (DynamicLossScaler, LossScaler, ZeroStageEnum, fragment_address)


def load_weights_only() -> None:
    """Let every ``torch.load`` of this process, whoever calls it, build tensors, plain values and KNOWN."""
    os.environ[VARIABLE] = "1"
    torch.serialization.add_safe_globals(list(KNOWN))
