"""How training state lies over processes, and how it is laid out anew for others.

A checkpoint that other ranks or ZeRO stages have saved goes through DeepSpeed's universal form, whole
tensors by name. DeepSpeed converts ZeRO 1 to 3 and loads into the stage that it came from; what it wants
besides to go from any stage to any other, plain optimisers (ZeRO 0) included, is added here.
"""

from __future__ import annotations

import argparse
import contextlib
import io
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import deepspeed
import torch
from deepspeed.checkpoint import ds_to_universal

from .engines import parameter_groups

LOSS_SCALE = ("loss_scaler", "dynamic_loss_scale", "overflow")
MOMENTS = ("exp_avg", "exp_avg_sq")
PLAIN_FILE = "mp_rank_00_model_states.pt"
SHARDED_FILE = "zero_pp_rank_0_mp_rank_00_model_states.pt"


@dataclass(frozen=True)
class Layout:
    """Where the shards of a checkpoint belong.

    Attributes:
        ranks: processes.
        zero_stages: ZeRO stage of each engine.
        device: type of the devices; the state of a generator fits its own only.
    """

    ranks: int
    zero_stages: Mapping[str, int]
    device: str

    @classmethod
    def of(cls, engines: Mapping[str, Any], ranks: int, device: torch.device) -> Layout:
        """The layout of these engines."""
        stages = {name: int(engine.zero_optimization_stage()) for name, engine in engines.items()}
        return cls(ranks, stages, device.type)

    def shards_like(self, other: Layout) -> bool:
        """Whether the shards of one fit the other."""
        return (self.ranks, self.zero_stages) == (other.ranks, other.zero_stages)

    def __str__(self) -> str:
        alone = len(self.zero_stages) == 1
        stages = (str(stage) if alone else f"{name} {stage}" for name, stage in self.zero_stages.items())
        count = f"{self.ranks} rank{'s' if self.ranks > 1 else ''}"
        return f"{count} zero {', '.join(stages)} on {self.device}"


def convert(source: Path, target: Path, module: torch.nn.Module) -> None:
    """Write the checkpoint of one engine in universal form; one process calls.

    Args:
        source: folder that the engine's ``save_checkpoint`` filled, under any ZeRO stage.
        target: folder to make, of about the same size.
        module: the engine's, whose trained parameters have the names and order of those saved.
    """
    target.mkdir(parents=True)
    if any(source.glob("*_optim_states.pt")):
        arguments = argparse.Namespace(
            input_folder=str(source),
            output_folder=str(target),
            num_extract_workers=1,  # no processes of its own: they would be launched as ranks are
            num_merge_workers=1,
            keep_temp_folder=False,
            strict=True,
            inject_missing_state=True,
        )
        with contextlib.redirect_stdout(io.StringIO()), contextlib.redirect_stderr(io.StringIO()):
            ds_to_universal.main(arguments)
        common = torch.load(target / "zero" / "optimizer_state.pt", weights_only=True)
    else:
        common = _convert_plain(source / PLAIN_FILE, target / "zero", module)
    _complete(source, target, common, module)


def _convert_plain(file: Path, zero: Path, module: torch.nn.Module) -> dict[str, Any]:
    """Write the tensors of an engine without ZeRO, whose optimiser counts its parameters."""
    state = torch.load(file, map_location="cpu", weights_only=True)
    optimiser = state["optimizer"]
    for number, (name, _) in enumerate(_trained(module)):
        moments = optimiser["state"][number]
        folder = zero / name
        folder.mkdir(parents=True)
        torch.save({"param": state["module"][name]}, folder / "fp32.pt")
        for moment in MOMENTS:
            torch.save({"param": moments[moment]}, folder / f"{moment}.pt")
        torch.save(moments["step"], folder / "step.pt")
    return {"param_groups": optimiser["param_groups"]}


def _complete(source: Path, target: Path, common: dict[str, Any], module: torch.nn.Module) -> None:
    """Add what the loaders of the other stages look for: the step, global state, the schedule's file."""
    steps = []
    for name, parameter in _trained(module):
        folder = target / "zero" / name
        steps.append(_step(common, folder))
        torch.save(steps[-1], folder / "step.pt")
        for file in ("fp32", *MOMENTS):  # ZeRO 3 leaves them bare and flat
            held = torch.load(folder / f"{file}.pt", weights_only=True)
            if isinstance(held, torch.Tensor):
                shape = getattr(parameter, "ds_shape", parameter.shape)
                torch.save({"param": held.view(shape)}, folder / f"{file}.pt")
    groups = common["param_groups"]
    sharded = {"state": {0: {"step": steps[0]}}, "param_groups": groups}
    known = {"ds_version": deepspeed.__version__, "param_groups": groups, "optimizer_state_dict": sharded}
    whole = {
        name: common[name] for name in ("loss_scaler", "dynamic_loss_scale", "overflow") if name in common
    }
    torch.save(whole | known, target / "zero" / "optimizer_state.pt")
    file = source / PLAIN_FILE if (source / PLAIN_FILE).exists() else source / SHARDED_FILE
    state = torch.load(file, map_location="cpu", weights_only=True)
    # The weights are in `zero/`; a loader of universal checkpoints reads them from there only.
    slim = {name: value for name, value in state.items() if name not in ("module", "optimizer")}
    slim["module"] = {}
    for stale in target.glob("*_model_states.pt"):
        stale.unlink()
    for name in (PLAIN_FILE, SHARDED_FILE):
        torch.save(slim, target / name)


def _step(common: Mapping[str, Any], folder: Path) -> Any:
    """Optimiser steps taken: beside the tensors, or under ZeRO 3 in what all have in common."""
    if (folder / "step.pt").exists():
        return torch.load(folder / "step.pt", weights_only=True)
    return common["optimizer_state_dict"]["state"][0]["step"]


def _trained(module: torch.nn.Module) -> Iterator[tuple[str, torch.nn.Parameter]]:
    """The trained parameters with their names, in the order of the optimiser's groups."""
    names = {id(parameter): name for name, parameter in module.named_parameters()}
    for group in parameter_groups(module, 0.0):
        for parameter in group["params"]:
            yield names[id(parameter)], parameter


def load_universal(engine: Any, folder: Path) -> None:
    """Load a universal checkpoint into an engine of any ZeRO stage; all ranks call."""
    optimiser = getattr(engine.optimizer, "optimizer", engine.optimizer)
    decays = [group["weight_decay"] for group in optimiser.param_groups]
    if engine.zero_optimization_stage() == 0:
        _load_plain(engine, folder)
    else:
        engine._config.load_universal_checkpoint = True  # what `checkpoint.load_universal` sets
        try:
            engine.load_checkpoint(str(folder.parent), tag=folder.name)
        finally:
            engine._config.load_universal_checkpoint = False
    # DeepSpeed's loader of ZeRO 3 gives every group the weight decay of the first, and every state the
    # same tensor for a step, which the optimiser would then advance once for each of them.
    rates = engine.lr_scheduler.get_last_lr()
    for group, decay, rate in zip(optimiser.param_groups, decays, rates, strict=True):
        group["weight_decay"], group["lr"] = decay, rate
    for state in optimiser.state.values():
        if isinstance(state["step"], torch.Tensor):
            state["step"] = state["step"].clone()


def _load_plain(engine: Any, folder: Path) -> None:
    for name, parameter in _trained(engine.module):
        held = folder / "zero" / name
        parameter.data.copy_(torch.load(held / "fp32.pt", weights_only=True)["param"].view_as(parameter))
        moments = {
            moment: torch.load(held / f"{moment}.pt", weights_only=True)["param"]
            .view_as(parameter)
            .to(parameter.device)
            for moment in MOMENTS
        }
        step = torch.as_tensor(torch.load(held / "step.pt", weights_only=True), dtype=torch.float32)
        engine.optimizer.state[parameter] = {"step": step.to(parameter.device), **moments}
    state = torch.load(folder / PLAIN_FILE, map_location="cpu", weights_only=True)
    engine.lr_scheduler.load_state_dict(state["lr_scheduler"])
    engine.global_steps = state["global_steps"]
    engine.global_samples = state["global_samples"]
    engine.skipped_steps = state["skipped_steps"]
