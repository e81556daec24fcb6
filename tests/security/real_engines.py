"""Saves engines of every ZeRO stage and loads them again through our own code; then a checkpoint that bites.

Started as a process of its own: DeepSpeed initialises torch.distributed once. Prints one line a case.
"""

from __future__ import annotations

import json
import os
import pickle
import sys
from pathlib import Path
from types import SimpleNamespace

os.environ.update(RANK="0", LOCAL_RANK="0", WORLD_SIZE="1", MASTER_ADDR="127.0.0.1", DS_ACCELERATOR="cpu")

import deepspeed
import torch
from rlhfc.stages.common.checkpoints import Checkpoints
from rlhfc.stages.common.engines import Optimisation, descend, trainable_engine
from rlhfc.stages.common.ranks import Ranks, start_ranks
from rlhfc.stages.common.saving import COMPLETE

from rlhfc.store.digest import file_digest

HOW = Optimisation(1e-2, 0.0, (0.9, 0.95), "constant", 0, 9)
CASES = [
    (stage, dtype) for dtype in ("fp32", "bf16") for stage in (0, 1, 2, 3) if (stage, dtype) != (0, "bf16")
]


class Bite:
    """What a stranger would put into a checkpoint."""

    def __init__(self, mark: Path) -> None:
        self.mark = mark

    def __reduce__(self) -> tuple[object, tuple[str]]:
        return os.mkdir, (str(self.mark),)


def engine(stage: int, dtype: str, seed: int) -> object:
    """A small engine with weights drawn from ``seed``."""
    torch.manual_seed(seed)
    config: dict[str, object] = {
        "train_batch_size": 1,
        "zero_optimization": {"stage": stage, "contiguous_gradients": True},
        "zero_allow_untested_optimizer": True,
        "gradient_clipping": 1.0,
    }
    if dtype != "fp32":
        config[dtype] = {"enabled": True}
    return trainable_engine(torch.nn.Linear(4, 4), config, HOW)


def kept(root: Path, alone: Ranks, made: object) -> Checkpoints:
    """The checkpoints of a stage with this engine."""
    params = SimpleNamespace(checkpoint_every=1, keep_checkpoints=1, seed=0)
    job = SimpleNamespace(paths={"checkpoints": root}, action_key="b3:0", params=params, beat=lambda: None)
    return Checkpoints(job, alone, {"train": made}, 9)


def forge(checkpoint: Path, file: Path) -> None:
    """Have the record of a checkpoint vouch for what a file holds now: who can write one can write both."""
    record = json.loads((checkpoint / COMPLETE).read_bytes())
    (row,) = (row for row in record["files"] if row["path"] == file.relative_to(checkpoint).as_posix())
    row |= {"size": file.stat().st_size, "digest": file_digest(file)}
    (checkpoint / COMPLETE).write_text(json.dumps(record))


def weights(made: object) -> list[float]:
    """Every weight, whole."""
    parameters = list(made.module.parameters())
    with deepspeed.zero.GatheredParameters([p for p in parameters if hasattr(p, "ds_id")]):
        return [x for p in parameters for x in p.detach().float().flatten().tolist()]


def main(folder: Path) -> None:
    """Every case, then the one that bites."""
    os.environ["MASTER_PORT"] = sys.argv[2]
    alone = start_ranks(threads=1, seed=0)
    for stage, dtype in CASES:
        before = engine(stage, dtype, 1)
        x = torch.ones(1, 4, dtype=torch.float32 if dtype == "fp32" else torch.bfloat16)
        descend(before, before(x).float().sum(), last=True)
        root = folder / f"{stage}-{dtype}"
        saved = kept(root, alone, before)
        saved.save(1)
        saved.finish()
        after = engine(stage, dtype, 2)
        assert weights(before) != weights(after)
        kept(root, alone, after).resume()
        print(stage, dtype, "same" if weights(before) == weights(after) else "another")
    (bitten,) = (folder / "2-fp32").glob("step-*")
    for file in sorted(bitten.rglob("*.pt")):
        clean = file.read_bytes()
        torch.save({"module": Bite(folder / "bitten")}, file)
        forge(bitten, file)
        try:
            kept(folder / "2-fp32", alone, engine(2, "fp32", 3)).resume()
        except pickle.UnpicklingError as error:
            print(file.name, "refused" if "Weights only load failed" in str(error) else error)
        file.write_bytes(clean)
        forge(bitten, file)
    print("bitten" if (folder / "bitten").exists() else "unharmed")


if __name__ == "__main__":
    main(Path(sys.argv[1]))
