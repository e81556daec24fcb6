"""What a launch is given: command, environment and resolved config; and what of them a key knows."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from dataclasses import fields
from functools import lru_cache
from pathlib import Path
from typing import Any

from jinja2 import FileSystemLoader, StrictUndefined, TemplateError
from jinja2.sandbox import SandboxedEnvironment

from rlhfc.compile.action import Action, Launch, WorkPaths
from rlhfc.compile.code import stages_folder
from rlhfc.compile.deepspeed import deepspeed_configs, keyed_configs
from rlhfc.compile.impacts import Leaf, full, keyed, masked, render_params
from rlhfc.errors import Diagnostic, Mark, UserError

FORMAT = 1
TEMPLATE = "launch.argv.j2"
MASKED_LAUNCH = Launch(**{field.name: f"<launch.{field.name}>" for field in fields(Launch)})
MASKED_CONFIG = "<config>"


def resolved_config(
    action: Action, key: str, inputs: Mapping[str, tuple[Path, str | None]], paths: WorkPaths
) -> dict[str, Any]:
    """The JSON that the entry script reads; ``docs/architecture.md`` gives its form.

    Args:
        action: the stage.
        key: its action key.
        inputs: address to folder and, for a single file, its name inside.
        paths: where the attempt reads and writes.
    """
    batch = action.batch
    return {
        "format": FORMAT,
        "pipeline": action.pipeline,
        "stage": action.stage,
        "kind": action.kind.name,
        "action_key": key,
        "params": render_params(action.params, full),
        "settings": settings_read(action, full),
        "inputs": {address: {"path": str(path), "file": file} for address, (path, file) in inputs.items()},
        "outputs": {port: str(folder) for port, folder in paths.outputs.items()},
        "deepspeed": deepspeed_configs(action),
        "batch": batch
        and {
            "global": batch.whole,
            "micro": batch.micro,
            "accumulation": batch.accumulation,
            "ranks": batch.ranks,
        },
        "paths": {
            "work": str(paths.work),
            "attempt": str(paths.attempt),
            "checkpoints": str(paths.checkpoints),
            "metrics": str(paths.metrics),
            "manifest": str(paths.manifest),
            "stop_file": str(paths.stop_file),
        },
    }


def keyed_config(action: Action) -> dict[str, Any]:
    """The part of the resolved config that decides the result; every other leaf is left out."""
    params = render_params(action.params, keyed(action.keyed_impacts))
    if "device" in params:
        params["device"] = action.device  # what `auto` came to decides the rounding
    return {
        "params": params,
        "settings": settings_read(action, keyed(action.keyed_impacts)),
        "deepspeed": keyed_configs(action, action.keyed_impacts),
    }


def settings_read(action: Action, shown: Callable[[Leaf], Any]) -> dict[str, Any]:
    """By address the settings of other stages that the kind declares to read, and no others."""
    return {
        address: _picked(render_params(source.params, shown), action.kind.reads_settings[address])
        for address, source in action.settings.items()
    }


def _picked(rendered: Mapping[str, Any], paths: Iterable[str]) -> dict[str, Any]:
    """What lies at the dotted paths, in the shape that it had; a path that was left out is none."""
    picked: dict[str, Any] = {}
    for path in paths:
        *parents, last = path.split(".")
        there, here = rendered, picked
        for step in parents:
            there, here = there[step], here.setdefault(step, {})
        if last in there:
            here[last] = there[last]
    return picked


def launch_argv(action: Action, launch: Launch, config: str) -> list[str]:
    """The command, one argument for each line that the kind's template yields; empty lines are dropped.

    Args:
        action: the stage.
        launch: how the attempt is started.
        config: path of its resolved config.

    Raises:
        UserError: the template fails, or a value in it does not fit into one line.
    """
    return _argv(action, launch, config, render_params(action.params, full))


def masked_argv(action: Action) -> list[str]:
    """As :func:`launch_argv`, with a sentinel for everything that does not decide the result.

    Raises:
        UserError: as :func:`launch_argv`.
    """
    return _argv(
        action, MASKED_LAUNCH, MASKED_CONFIG, render_params(action.params, masked(action.keyed_impacts))
    )


def launch_environment(action: Action) -> dict[str, str]:
    """Variables that a launch adds to the environment; ``PYTHONPATH`` goes in front of what is there.

    Secrets in it are still references.
    """
    added = {
        **action.params.environment,
        "HF_HUB_OFFLINE": "1",  # sources are on disk before the launch
        "OMP_NUM_THREADS": str(action.params.threads),
        "PYTHONHASHSEED": "0",
        "TOKENIZERS_PARALLELISM": "false",
        # Checkpoints are pickles: whatever library loads them, they yield tensors and no calls.
        "TORCH_FORCE_WEIGHTS_ONLY_LOAD": "1",
    }
    if action.device == "cpu":
        added["DS_ACCELERATOR"] = "cpu"
    if action.loaded.python_path is not None:
        added["PYTHONPATH"] = str(action.loaded.python_path)
    return added


def _argv(action: Action, launch: Launch, config: str, params: Mapping[str, Any]) -> list[str]:
    file = action.loaded.folder / TEMPLATE
    try:
        template = _environment(action.loaded.folder).get_template(TEMPLATE)
        text = template.render(launch=launch, module=action.loaded.module, config=config, params=params)
    except (TemplateError, _UnfitValueError) as error:
        mark = Mark(file, getattr(error, "lineno", None) or 1, 1)
        raise UserError(Diagnostic(f"launch template fails: {error}", mark)) from error
    argv = [line.strip() for line in text.split("\n") if line.strip()]
    if not argv:
        raise UserError(Diagnostic("launch template yields no command", Mark(file, 1, 1)))
    return argv


class _UnfitValueError(ValueError):
    """A value that would not come out of its line as it went in."""


def _one_line(value: Any) -> Any:
    text = str(value)
    if "\n" in text or text != text.strip() or not text:
        raise _UnfitValueError(
            f"{text!r} is no argument: empty, or with a newline or white space at its ends"
        )
    return value


@lru_cache(maxsize=64)
def _environment(folder: Path) -> SandboxedEnvironment:
    """Templates of a kind; it may include those of its neighbours and of the built-in kinds."""
    places = [folder, folder.parent, stages_folder()]
    return SandboxedEnvironment(
        loader=FileSystemLoader(places), undefined=StrictUndefined, finalize=_one_line, autoescape=False
    )
