"""A plan as plain values: what ``--json`` prints, what a saved plan holds, what the text is made from.

The types are the published form (``schemas/plan.schema.json`` is made from them). This module and
what prints a document need nothing but the standard library, so that a plan that is known already
is shown without loading the compiler.
"""

from __future__ import annotations

from typing import Any, Literal, NotRequired, TypedDict

FORMAT_VERSION = "1.0"


class ReasonDocument(TypedDict):
    """One cause, of a closed set of codes; ``text`` is it in words."""

    code: str
    path: str
    before: Any
    after: Any
    text: str


class DifferenceDocument(TypedDict):
    """A numeric or runtime value that is not what the result was made with."""

    path: str
    before: Any
    after: Any


class ResumeDocument(TypedDict):
    """Step of the newest complete checkpoint, and the last step."""

    step: int
    total: int


class ResultDocument(TypedDict):
    """What the store holds: UTC time (ISO 8601), wall seconds, bytes, tree digest by port."""

    finished: str
    seconds: float
    size: int
    outputs: dict[str, str]


class EstimateDocument(TypedDict):
    """What a stage will take: wall seconds, seconds of all its GPUs together, bytes of its outputs.

    Told from its attempts so far (``basis`` is ``attempts``), from the newest result of the stage, or
    from one of another stage of its kind; ``source`` is that stage, as ``pipeline/stage``. ``size`` is
    null when no result tells.
    """

    seconds: float
    gpu_seconds: float
    size: int | None
    basis: Literal["attempts", "stage", "kind"]
    source: str


class TotalDocument(TypedDict):
    """What several stages will take; ``unknown`` are those that the sums leave out.

    ``seconds`` is the least that the wall clock will show: the longest path through the graph, and all
    GPU-seconds shared by the GPUs there are.
    """

    seconds: float
    gpu_seconds: float
    size: int
    unknown: list[str]


class EstimatesDocument(TypedDict):
    """``certain``: the stages that run or resume; ``possible``: the undecided ones as well."""

    certain: TotalDocument
    possible: TotalDocument


class AcceptedDocument(TypedDict):
    """Who lets a result stand under another key than ``before``, why, and since when (UTC, ISO 8601)."""

    before: str
    who: str
    why: str
    time: str


class StageDocument(TypedDict):
    """The verdict on one stage.

    ``file`` and ``line`` are where it starts, ``variant`` is the values of its axes (empty for a stage that
    the matrix does not multiply), ``key`` is null while undecided. ``reasons`` say why it is not
    cached; of a frozen stage, although what its result stands. ``pinned``: that result is one that the
    spec names. ``ignored`` are changes that rerun nothing because the spec says so.
    ``estimate`` is null for a stage that does not run, and while nothing is known. A skipped stage is
    left out by ``--target``, ``--from`` or ``--until``; nothing else is said of it. ``rendered`` is what
    ``--show`` asks for: ``argv``, ``environment``, ``config``.
    """

    stage: str
    kind: str
    variant: dict[str, str | int | float | bool | None]
    file: str
    line: int
    verdict: Literal["cached", "restore", "resume", "run", "undecided", "frozen", "skipped"]
    key: str | None
    reasons: list[ReasonDocument]
    ignored: list[ReasonDocument]
    pinned: bool
    differences: list[DifferenceDocument]
    resume: ResumeDocument | None
    result: ResultDocument | None
    accepted: AcceptedDocument | None
    estimate: EstimateDocument | None
    rendered: NotRequired[dict[str, Any]]


class CommitDocument(TypedDict):
    """The commit that is checked out where the spec lies; ``dirty`` when one of the spec's files differs."""

    id: str
    dirty: bool
    branch: str | None


class PlanDocument(TypedDict):
    """A whole plan.

    ``spec`` is an absolute path, ``commit`` null outside of a repository, ``store`` as the user named it,
    ``gpus`` those that may be used here, ``remote`` the shared store that was asked, if one was,
    ``summary`` the number of stages of each verdict, ``hints`` say what cannot be known here,
    ``warnings`` what the store has lost.
    """

    format_version: str
    pipeline: str
    spec: str
    commit: CommitDocument | None
    store: str
    gpus: int
    remote: str | None
    changes: bool
    summary: dict[str, int]
    estimate: EstimatesDocument
    hints: list[str]
    warnings: list[str]
    stages: list[StageDocument]
