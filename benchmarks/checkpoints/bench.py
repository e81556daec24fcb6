"""How long a save holds the training thread, copied and written beside it, or written in place by DeepSpeed.

One process on the CPU, ZeRO 1, fp32: `python benchmarks/checkpoints/bench.py` takes the model of the
quickstart's size, `… smollm2` one of SmolLM2-135M's (random weights; 5 GB of memory, 4 GB of disk).
"""

from __future__ import annotations

import os
import statistics
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import torch
from deepspeed.runtime.checkpoint_engine.torch_checkpoint_engine import TorchCheckpointEngine
from rlhfc.stages.common.checkpoints import Checkpoints
from rlhfc.stages.common.engines import Optimisation, descend, trainable_engine
from rlhfc.stages.common.job import sync
from rlhfc.stages.common.ranks import start_ranks
from transformers import LlamaConfig, LlamaForCausalLM

SAVES = 7
SIZES = {
    "quickstart": {"vocab_size": 512, "hidden_size": 64, "intermediate_size": 172, "num_hidden_layers": 5}
    | {"num_attention_heads": 8, "num_key_value_heads": 4},
    "smollm2": {"vocab_size": 49152, "hidden_size": 576, "intermediate_size": 1536, "num_hidden_layers": 30}
    | {"num_attention_heads": 9, "num_key_value_heads": 3},
}
ALONE = {"RANK": "0", "LOCAL_RANK": "0", "WORLD_SIZE": "1", "LOCAL_SIZE": "1"}
CONFIG = {
    "train_batch_size": 1,
    "train_micro_batch_size_per_gpu": 1,
    "gradient_accumulation_steps": 1,
    "zero_optimization": {"stage": 1, "overlap_comm": False},
    "zero_allow_untested_optimizer": True,
    "steps_per_print": 10**9,
}


def resident() -> float:
    """Memory of this process that is in use, in MB."""
    lines = Path("/proc/self/status").read_text().splitlines()
    return int(next(line for line in lines if line.startswith("VmRSS")).split()[1]) / 1000


def median_ms(save: Callable[[], float], step: Callable[[], None]) -> float:
    """Median of what ``save`` measures, in ms, with an optimiser step between two."""
    taken = []
    for _ in range(SAVES):
        step()
        taken.append(save())
    return 1000 * statistics.median(taken)


def job_in(folder: Path, root: Path) -> Any:
    """What checkpoints need to know of a stage that saves into ``root`` and keeps one."""
    params = SimpleNamespace(keep_checkpoints=1, seed=1, checkpoint_every=1)
    paths = {"checkpoints": root, "stop_file": folder / "stop"}
    return SimpleNamespace(paths=paths, action_key="b3:", params=params, beat=lambda: None)


def saved_in_place(engine: Any, folder: Path) -> float:
    """Seconds that DeepSpeed's own save takes, until all of it is on the disk."""
    started = time.monotonic()
    engine.save_checkpoint(str(folder), tag="train", save_latest=False)
    for path in folder.rglob("*"):
        sync(path)
    return time.monotonic() - started


def main(size: str, folder: Path) -> None:
    """Measure and print one line."""
    os.environ |= {**ALONE, "MASTER_ADDR": "127.0.0.1", "MASTER_PORT": "29777"}
    ranks = start_ranks(threads=1, seed=1)
    model = LlamaForCausalLM(LlamaConfig(**SIZES[size], tie_word_embeddings=True))
    engine = trainable_engine(model, CONFIG, Optimisation(1e-4, 0.0, (0.9, 0.95), "constant", 0, 100))
    ids = torch.randint(0, SIZES[size]["vocab_size"], (1, 32))

    def step() -> None:
        descend(engine, engine(input_ids=ids, labels=ids).loss, last=True)

    root = folder / "checkpoints"
    root.mkdir()
    checkpoints = Checkpoints(job_in(folder, root), ranks, {"train": engine}, 100)
    grown: list[float] = []
    written: list[float] = []

    def beside() -> float:
        before, started = resident(), time.monotonic()
        checkpoints.save(len(grown) + 1)
        held = time.monotonic() - started
        grown.append(resident() - before)
        checkpoints.finish()
        written.append(time.monotonic() - started)
        return held

    held = median_ms(beside, step)
    size_mb = sum(path.stat().st_size for path in root.rglob("*") if path.is_file()) / 1e6
    engine.checkpoint_engine = TorchCheckpointEngine()
    plain = median_ms(lambda: saved_in_place(engine, folder / "plain"), step)
    print(
        f"{size}: {size_mb:.1f} MB; training held {held:.0f} ms (complete after "
        f"{1000 * statistics.median(written):.0f} ms), in place {plain:.0f} ms, ratio {plain / held:.1f}; "
        f"memory +{max(grown):.0f} MB while it is written"
    )


if __name__ == "__main__":
    with tempfile.TemporaryDirectory() as place:
        main(sys.argv[1] if len(sys.argv) > 1 else "quickstart", Path(place))
        sys.stdout.flush()
