"""Every global generator of a process: Python's, numpy's, torch's, the accelerator's."""

from __future__ import annotations

import random
from typing import Any

import numpy as np
import torch
from deepspeed.accelerator import get_accelerator

from .ranks import seed_everything
from .rows import Purpose, generator


class Generators:
    """Their state as plain values and tensors, to be saved with weights."""

    def state_dict(self) -> dict[str, Any]:
        """Return the state of all four."""
        name, keys, position, has_gauss, gauss = np.random.get_state()
        version, internal, gauss_next = random.getstate()
        return {
            "python": {"version": version, "internal": list(internal), "gauss_next": gauss_next},
            "numpy": {
                "name": name,
                "keys": torch.from_numpy(keys.astype(np.int64)),
                "position": position,
                "has_gauss": has_gauss,
                "gauss": gauss,
            },
            "torch": torch.get_rng_state(),
            "accelerator": get_accelerator().get_rng_state(),
        }

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Put all four where they were."""
        python, numpy = state["python"], state["numpy"]
        random.setstate((python["version"], tuple(python["internal"]), python["gauss_next"]))
        keys = numpy["keys"].numpy().astype(np.uint32)
        np.random.set_state((numpy["name"], keys, numpy["position"], numpy["has_gauss"], numpy["gauss"]))
        torch.set_rng_state(state["torch"])
        get_accelerator().set_rng_state(state["accelerator"])


def seed_new_rank(seed: int, step: int, rank: int) -> None:
    """Seed a rank that the checkpoint of ``step`` knows no generators of, by a rule of the stage's seed."""
    seed_everything(int(generator(seed, step, Purpose.NEW_RANK, rank).integers(2**32)))
