"""The model card: what was exported, what it was made from, how it fared."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from importlib.metadata import version
from pathlib import Path
from typing import Any

import jinja2
from jinja2.sandbox import SandboxedEnvironment

from rlhfc.kind import StageParams

from ..common.job import InputPath, Job, StageError
from .kind import KIND, ExportParams

_WEIGHTS = (".safetensors", ".gguf")
# Addresses of inputs hold paths of this machine, and labels must not reach an output.
_UNTOLD = {"model", "evaluation", *StageParams.model_fields}


@dataclass(frozen=True)
class Exported:
    """What the card says of the model itself."""

    architecture: str
    parameters: int
    stop_ids: list[int]


def render_card(job: Job[ExportParams], exported: Exported) -> str:
    """Text of the card: the same for the same action, on every machine.

    Raises:
        StageError: the evaluation cannot be read.
    """
    environment = SandboxedEnvironment(
        loader=jinja2.FileSystemLoader(Path(__file__).parent),
        undefined=jinja2.StrictUndefined,
        trim_blocks=True,
        autoescape=False,
    )
    evaluation = job.inputs.get("evaluation")
    return environment.get_template("card.md.j2").render(
        action_key=job.action_key,
        architecture=exported.architecture,
        parameters=exported.parameters,
        dtype=job.params.dtype,
        stop_ids=exported.stop_ids,
        figures=list(_figures(_read_evaluation(evaluation))) if evaluation else [],
        weights=list(_weights(job.inputs["model"])),
        settings=[(name, value) for name, value in job.params.model_dump().items() if name not in _UNTOLD],
        libraries=[f"{name} {_minor(version(name))}" for name in KIND.libraries],
    )


def _weights(source: InputPath) -> Iterator[tuple[str, str]]:
    """Name and SHA-256 of each weight file that the model was loaded from."""
    files = [source.full] if source.file else sorted(source.path.iterdir())
    for file in files:
        if file.suffix in _WEIGHTS:
            with file.open("rb") as stream:
                yield file.name, hashlib.file_digest(stream, "sha256").hexdigest()


def _read_evaluation(source: InputPath) -> Mapping[str, Any]:
    file = source.full if source.file else source.path / "evaluation.json"
    try:
        figures = json.loads(file.read_text(encoding="utf-8"))
    except (OSError, ValueError) as error:
        raise StageError(
            f"cannot read the evaluation `{file.name}`: {error}",
            "give the `report` port of an `evaluate` stage",
        ) from error
    if not isinstance(figures, dict):
        raise StageError(f"`{file.name}` is no JSON object", "give the `report` port of an `evaluate` stage")
    return figures


def _figures(value: Any, name: str = "") -> Iterator[tuple[str, str]]:
    """Every number and interval of the evaluation with its dotted name; texts and samples are left out."""
    if isinstance(value, dict):
        for key in value:
            yield from _figures(value[key], f"{name}.{key}" if name else str(key))
    elif _is_number(value) and name != "format":
        yield name, f"{value:.4g}"
    elif isinstance(value, list) and len(value) == 2 and all(map(_is_number, value)):
        yield name, f"{value[0]:.4g} to {value[1]:.4g}"


def _minor(release: str) -> str:
    """``2.13`` of ``2.13.0+cpu``: what the action key knows, and so all that an output may say."""
    return ".".join(release.split(".")[:2])


def _is_number(value: Any) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool)
