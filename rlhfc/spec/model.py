"""The values that loading a spec goes through and ends in."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

from pydantic import Field

from rlhfc.compile.action import LoadedKind, stage_of
from rlhfc.compile.policy import LibraryPolicy, Policy
from rlhfc.errors import Mark
from rlhfc.kind import InputModel, SpecModel, StageParams
from rlhfc.spec.nodes import Node, Scalar
from rlhfc.spec.overrides import folder_of

if TYPE_CHECKING:
    import networkx

References = Mapping[str, Mapping[str, list[str]]]
"""Stage to the stages that it reads from, each with the addresses of the inputs that do."""

STAGE_NAME = r"^[A-Za-z][A-Za-z0-9_-]*$"


class SpecFile(SpecModel):
    """The top level of a spec. What stands in a stage is checked against its kind."""

    version: Literal[1] = Field(alias="schema", description="version of the spec's form")
    include: list[str] = Field(
        default_factory=list, description="files underneath this one, relative to it; later ones over earlier"
    )
    name: str | None = Field(None, min_length=1, description="name of the pipeline; default: the file's stem")
    description: str = Field("", description="free text, shown in the report")
    kinds: list[str] = Field(
        default_factory=list, description="folders, relative to this file, whose sub-folders are stage kinds"
    )
    vars: dict[str, Any] = Field(default_factory=dict, description="values by name, for `${name}`")
    defaults: dict[str, Any] = Field(
        default_factory=dict,
        description="values for every stage whose kind has such a field and that does not set it",
    )
    libraries: Literal["strict"] | dict[str, Policy] = Field(
        default_factory=dict,
        description="which versions enter a key: by library `invalidate` (major and minor), `warn` "
        "(recorded, a difference is told) or `ignore`; `strict`: full versions of all, and Python's",
    )
    numerics: Literal["recorded", "strict"] = Field(
        "recorded", description="`numerics` of every stage that does not say otherwise"
    )
    matrix: dict[str, Any] = Field(
        default_factory=dict,
        description="axes, each a list of values for `${matrix.axis}`, and `exclude`: choices left out",
    )
    stages: dict[str, dict[str, Any]] = Field(min_length=1, description="stages by name")


@dataclass(frozen=True)
class Draft:
    """A stage as far as it could be understood; the checks between stages work on drafts.

    Attributes:
        node: its fields without ``kind``, defaults filled in.
        loaded: None when the kind is unknown, as is ``params`` then.
        params: has no attribute for a field that is wrong or missing.
        inputs: of ``params``, by address.
        complete: whether ``params`` has every field.
        defaulted: fields whose value came from ``defaults``.
        variant: values of its axes.
    """

    name: str
    node: Node
    loaded: LoadedKind | None
    params: StageParams | None
    inputs: Mapping[str, InputModel]
    complete: bool = False
    defaulted: frozenset[str] = frozenset()
    variant: Mapping[str, Scalar] = field(default_factory=dict)

    def locate(self, path: tuple[str | int, ...]) -> Mark:
        """Place of the value at ``path``, else of the nearest parent that is written out."""
        return self.node.descend(path)[0].place()

    def address(self, path: tuple[str | int, ...]) -> str:
        """How a message calls the value at ``path``."""
        owner = "defaults" if path and path[0] in self.defaulted else stage_of(self.name)
        return ".".join((owner, *map(str, path)))


@dataclass(frozen=True)
class StageSpec:
    """A stage of a valid spec.

    Attributes:
        mark: its name in the YAML.
        node: its fields as written, defaults and overrides filled in.
        defaulted: fields whose value came from ``defaults``.
        variant: values of its axes; empty for a stage that the matrix does not multiply.
    """

    name: str
    loaded: LoadedKind
    params: StageParams
    mark: Mark
    node: Node = field(repr=False, compare=False)
    defaulted: frozenset[str] = frozenset()
    variant: Mapping[str, Scalar] = field(default_factory=dict)

    @property
    def called(self) -> str:
        """How messages call it: as the spec does, one name for all variants."""
        return stage_of(self.name)

    def locate(self, path: tuple[str | int, ...]) -> Mark:
        """Place of the leaf at ``path``, else of the nearest parent present in the YAML.

        The steps of an input's address (``"sources.0.data".split(".")``) may be given as they are.
        """
        return self.node.descend(path)[0].place()

    def folder_of(self, path: tuple[str | int, ...], spec: Path) -> Path:
        """Where a relative path starts that stands at ``path``: the folder of the file that says so."""
        found = self.node.descend(path)[0]
        return folder_of(found.key or found.mark, spec)


@dataclass(frozen=True)
class PipelineSpec:
    """A valid spec.

    Attributes:
        name: of the pipeline.
        path: of the spec, absolute.
        stages: in topological order, ties in the order of the spec.
        references: see :data:`References`.
        description: free text.
        libraries: which versions of libraries enter keys.
        files: that were read, absolute: the spec, what it includes, overlays.
        secrets: environment variables that are referred to anywhere in these.
    """

    name: str
    path: Path
    stages: Mapping[str, StageSpec]
    references: References = field(repr=False, compare=False)
    description: str = ""
    libraries: LibraryPolicy = field(default_factory=LibraryPolicy)
    files: tuple[Path, ...] = ()
    secrets: frozenset[str] = frozenset()

    @cached_property
    def graph(self) -> networkx.DiGraph[str]:
        """Stage names; an edge leads from a stage to one that reads it, its ``addresses`` are the inputs."""
        from rlhfc.spec.knots import graph_of  # networkx takes a quarter of a plan's time to import

        return graph_of(self.references)
