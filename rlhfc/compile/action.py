"""What a stage is after compilation: values only, no effects."""

from __future__ import annotations

from collections.abc import Collection, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Literal

from rlhfc.compile.policy import LibraryPolicy
from rlhfc.errors import Mark
from rlhfc.kind import Impact, Kind, StageParams
from rlhfc.spec.inputs import type_of_input

VARIANT = "@"
"""Stands between a stage's name and the values of its axes."""


def stage_of(name: str) -> str:
    """The stage that a name belongs to: ``ppo`` for ``ppo@kl=0.02``."""
    return name.partition(VARIANT)[0]


def named_in(name: str, stages: Collection[str]) -> tuple[str, ...]:
    """What a name means: the stage itself, or all its variants; nothing when there is none."""
    return (name,) if name in stages else tuple(stage for stage in stages if stage_of(stage) == name)


@dataclass(frozen=True)
class LoadedKind:
    """A stage kind and the folder it was found in.

    Attributes:
        kind: its declaration.
        folder: holds ``kind.py``, ``launch.argv.j2`` and ``main.py``.
        module: dotted name that the launch runs, for example ``rlhfc.stages.sft.main``.
        python_path: folder to put on ``PYTHONPATH`` for a kind outside the package, or None.
    """

    kind: Kind
    folder: Path
    module: str
    python_path: Path | None = None


@dataclass(frozen=True)
class UpstreamOutput:
    """An input that another stage makes."""

    stage: str
    port: str


@dataclass(frozen=True)
class ResolvedSource:
    """An input that no stage makes.

    Attributes:
        origin: how the spec names it, for example ``hub:meta-llama/Llama-2-7b-hf``.
        digest: what it holds: ``b3:…`` for local content, ``hub:<commit>`` for the hub;
            None when it cannot be known here, and then ``unresolved`` says why.
        path: local folder (or folder of the single file), None until it is downloaded.
        file: the one file inside ``path``, or None for the whole folder.
        hub: (repository id, commit or revision) to download, None for local sources.
    """

    origin: str
    digest: str | None
    path: Path | None = None
    file: str | None = None
    hub: tuple[str, str] | None = None
    unresolved: str | None = None


@dataclass(frozen=True)
class Batch:
    """Batch words, by exact division: ``whole == micro * accumulation * ranks``."""

    whole: int
    micro: int
    accumulation: int
    ranks: int


@dataclass(frozen=True)
class Action:
    """A stage after compilation.

    Attributes:
        inputs: address (``model``, ``sources.0.data``) to where it comes from.
        settings: address to the action behind it, whose parameters the kind reads in part (see
            ``Kind.reads_settings``).
        device: what ``device: auto`` came to on this machine.
        code: file to digest of what the stage runs (see ``rlhfc.compile.code``).
        line: where the stage starts in ``file``.
        file: of the spec that the stage is written in, absolute.
        variant: values of its axes; empty for a stage that the matrix does not multiply.
        secrets: environment variables that its settings refer to, and where they do.
        libraries: which versions of the kind's libraries enter the key.
        places: where the spec says ``frozen`` and ``pin``.
        origins: dotted path of a parameter to where its value is written (see ``rlhfc.spec.origins``);
            a field's own default has none.
    """

    pipeline: str
    stage: str
    loaded: LoadedKind
    params: StageParams
    inputs: Mapping[str, UpstreamOutput | ResolvedSource]
    batch: Batch | None
    device: Literal["cpu", "gpu"]
    settings: Mapping[str, Action] = field(default_factory=dict)
    code: Mapping[str, str] = field(default_factory=dict)
    line: int = 1
    libraries: LibraryPolicy = field(default_factory=LibraryPolicy)
    places: Mapping[str, Mark] = field(default_factory=dict)
    origins: Mapping[str, str] = field(default_factory=dict)
    file: Path = Path()
    variant: Mapping[str, str | int | float | bool | None] = field(default_factory=dict)
    secrets: Mapping[str, Mark] = field(default_factory=dict)

    def repository_type(self, address: str) -> Literal["model", "dataset"]:
        """What a hub source at this address is, by the type that the kind declares for it."""
        return "dataset" if type_of_input(address, self.kind.inputs) == "data" else "model"

    @property
    def kind(self) -> Kind:
        """Declaration of the stage's kind."""
        return self.loaded.kind

    @property
    def held(self) -> bool:
        """Whether a result stands whatever changed: the stage is frozen or pinned."""
        return self.params.frozen or self.params.pin is not None

    def lacking(self, outputs: Collection[str]) -> tuple[str, ...]:
        """Ports of the kind that a result with these does not have: it was made before the kind had them."""
        return tuple(port for port in self.kind.outputs if port not in outputs)

    @property
    def keyed_impacts(self) -> frozenset[Impact]:
        """Impacts whose leaves enter the key."""
        strict: frozenset[Impact] = frozenset({"semantic", "numeric"})
        return strict if self.params.numerics == "strict" else strict - {"numeric"}


@dataclass(frozen=True)
class Pipeline:
    """A compiled spec: actions in topological order (ties in the order of the spec).

    Attributes:
        files: every file that the spec was read from, absolute.
        secrets: environment variables that these refer to, also where no action of this pipeline does.
    """

    name: str
    spec: Path
    actions: Mapping[str, Action]
    files: tuple[Path, ...] = ()
    secrets: frozenset[str] = frozenset()

    def named(self, name: str) -> tuple[str, ...]:
        """What a name means: the stage itself, or all its variants; nothing when there is none."""
        return named_in(name, self.actions)

    def upstream(self, stage: str) -> tuple[str, ...]:
        """Names of the stages that ``stage`` reads from, each once."""
        bindings = self.actions[stage].inputs.values()
        return tuple(dict.fromkeys(b.stage for b in bindings if isinstance(b, UpstreamOutput)))


@dataclass(frozen=True)
class WorkPaths:
    """Where one attempt of an action reads and writes; all absolute."""

    work: Path
    attempt: Path
    outputs: Mapping[str, Path]

    @property
    def checkpoints(self) -> Path:
        """Training state of the running action; each attempt takes over that of the one before."""
        return self.attempt / "checkpoints"

    @property
    def metrics(self) -> Path:
        """JSON lines that rank 0 appends; each attempt goes on from a copy."""
        return self.attempt / "metrics.jsonl"

    @property
    def config(self) -> Path:
        """Resolved config that the entry script is given."""
        return self.attempt / "config.json"

    @property
    def manifest(self) -> Path:
        """Outputs manifest that rank 0 writes last."""
        return self.attempt / "outputs.json"

    @property
    def stop_file(self) -> Path:
        """When it appears, the ranks save a checkpoint and exit with status 75."""
        return self.attempt / "stop"


@dataclass(frozen=True)
class Launch:
    """How one attempt is started: the part of a command that never enters a key."""

    device: str
    ranks: str
    port: str
    include: str
    python: str
