"""What a stage would be launched with, shown before there is a store, a GPU or a download."""

from __future__ import annotations

import json
import shlex
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from rlhfc.compile.action import Action, Launch, ResolvedSource, UpstreamOutput, WorkPaths
from rlhfc.compile.render import launch_argv, launch_environment, resolved_config

UNDECIDED_KEY = "<undecided>"


def rendered(action: Action, key: str | None) -> dict[str, Any]:
    """Command, environment and resolved config; what only the run decides stands in ``<…>``.

    Raises:
        UserError: the launch template fails.
    """
    paths = _paths(action)
    inputs = {address: _place(binding) for address, binding in action.inputs.items()}
    return {
        "argv": launch_argv(action, _launch(action), str(paths.config)),
        "environment": launch_environment(action),
        "config": resolved_config(action, key or UNDECIDED_KEY, inputs, paths),
    }


def rendered_lines(stage: str, shown: dict[str, Any]) -> Iterator[str]:
    """The same as text: the command on one line, each DeepSpeed config under its engine's name."""
    config = dict(shown["config"])
    configs = config.pop("deepspeed")
    yield f"{stage}: command"
    variables = [f"{name}={shlex.quote(text)}" for name, text in sorted(shown["environment"].items())]
    yield f"  {' '.join([*variables, shlex.join(shown['argv'])])}"
    yield f"{stage}: resolved config"
    yield from _indented(config)
    for engine, content in configs.items():
        yield f"{stage}: DeepSpeed config of `{engine}`"
        yield from _indented(content)


def _indented(content: dict[str, Any]) -> Iterator[str]:
    text = json.dumps(content, indent=2, ensure_ascii=False)
    return (f"  {line}" for line in text.splitlines())


def _launch(action: Action) -> Launch:
    ranks = action.params.ranks
    include = f"localhost:{','.join(map(str, range(ranks)))}"
    return Launch(action.device, str(ranks), "<port>", include, "python")


def _paths(action: Action) -> WorkPaths:
    work = Path("<work>")
    attempt = work / "attempts" / "001"
    return WorkPaths(work, attempt, {port: attempt / "out" / port for port in action.kind.outputs})


def _place(binding: UpstreamOutput | ResolvedSource) -> tuple[Path, str | None]:
    if isinstance(binding, UpstreamOutput):
        return Path(f"<{binding.stage}.{binding.port}>"), None
    return binding.path or Path(f"<{binding.origin}>"), binding.file
