"""The processes that share one stage: start, seeds, collectives, stop requests."""

from __future__ import annotations

import datetime
import os
import random
from dataclasses import dataclass
from pathlib import Path

import deepspeed
import numpy as np
import torch
import torch.distributed as dist
from deepspeed.accelerator import get_accelerator

# A rank may wait this long for another: saving a large checkpoint is the slowest thing they do apart.
COLLECTIVE_TIMEOUT = datetime.timedelta(minutes=60)


@dataclass(frozen=True)
class Ranks:
    """One process among its equals.

    Attributes:
        rank: 0 … ``world`` - 1; rank 0 writes files.
        world: data-parallel size.
        device: where this rank's tensors live.
    """

    rank: int
    world: int
    device: torch.device

    @property
    def first(self) -> bool:
        """Whether this rank writes files."""
        return self.rank == 0

    def sum(self, values: torch.Tensor) -> torch.Tensor:
        """Sum over ranks, in place; ``values`` is float64 or int64 of any shape."""
        if self.world > 1:
            dist.all_reduce(values)
        return values

    def max(self, value: int) -> int:
        """Largest ``value`` of all ranks."""
        largest = torch.tensor(value, device=self.device)
        if self.world > 1:
            dist.all_reduce(largest, op=dist.ReduceOp.MAX)
        return int(largest.item())

    def any(self, flag: bool) -> bool:
        """Whether ``flag`` is set on at least one rank."""
        return bool(self.sum(torch.tensor(int(flag), device=self.device)).item())

    def all(self, flag: bool) -> bool:
        """Whether ``flag`` is set on every rank."""
        return not self.any(not flag)

    def gather(self, value: object) -> list[object]:
        """``value`` of every rank, in rank order, on every rank; picklable objects."""
        if self.world == 1:
            return [value]
        values: list[object] = [None] * self.world
        dist.all_gather_object(values, value)
        return values

    def barrier(self) -> None:
        """Wait until every rank is here."""
        if self.world > 1:
            dist.barrier()

    def leave(self) -> None:
        """Part in order, when all is written: a rank that is gone while others still talk can abort them."""
        self.barrier()
        dist.destroy_process_group()

    def stop_requested(self, stop_file: Path) -> bool:
        """Whether the stop file is there; all ranks get the same answer."""
        return self.any(self.first and stop_file.exists())

    def share(self, rows: int) -> range:
        """Positions of a global batch of ``rows`` that this rank takes; sizes differ by at most one."""
        return range(self.rank * rows // self.world, (self.rank + 1) * rows // self.world)


def start_ranks(*, threads: int, seed: int) -> Ranks:
    """Join the other ranks of this launch and seed every generator with ``seed + rank``."""
    accelerator = get_accelerator()
    torch.set_num_threads(threads)
    backend = accelerator.communication_backend_name()
    if accelerator.device_name() == "cpu":
        # DeepSpeed would compile its shared-memory collectives here: half a minute, and a compiler on
        # the user's machine. Between a few CPU ranks gloo does the same sums.
        deepspeed.ops.__compatible_ops__["deepspeed_shm_comm"] = False
        backend = "gloo"
    deepspeed.init_distributed(dist_backend=backend, timeout=COLLECTIVE_TIMEOUT, verbose=False)
    rank = dist.get_rank()
    if accelerator.device_name() != "cpu":
        accelerator.set_device(int(os.environ["LOCAL_RANK"]))
    seed_everything(seed + rank)
    return Ranks(rank, dist.get_world_size(), torch.device(accelerator.current_device_name()))


def seed_everything(seed: int) -> None:
    """Seed Python, numpy, torch and the accelerator."""
    random.seed(seed)
    np.random.seed(seed % 2**32)  # libraries below us use the global generator
    torch.manual_seed(seed)
    get_accelerator().manual_seed_all(seed)
