"""A plan as plain values: what ``--json`` prints, what a saved plan holds, what the text is made from.

The types are the published form (``schemas/plan.schema.json`` is made from them). This module and
what prints a document need nothing but the standard library, so that a plan that is known already
is shown without loading the compiler.
"""

from __future__ import annotations

from typing import Any, Literal, TypedDict

FORMAT_VERSION = "1.0"


class ReasonDocument(TypedDict):
    """One cause; ``text`` is it in words. Codes are those of :class:`rlhfc.compile.reasons.ReasonCode`."""

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


class StageDocument(TypedDict):
    """The verdict on one stage.

    ``file`` and ``line`` are where it starts, ``variant`` is the values of its axes (empty for a stage that
    the matrix does not multiply), ``key`` is null while undecided.
    """

    stage: str
    kind: str
    variant: dict[str, str | int | float | bool | None]
    file: str
    line: int
    verdict: Literal["cached", "resume", "run", "undecided"]
    key: str | None
    reasons: list[ReasonDocument]
    differences: list[DifferenceDocument]
    resume: ResumeDocument | None
    result: ResultDocument | None


class PlanDocument(TypedDict):
    """A whole plan.

    ``spec`` is an absolute path, ``store`` as the user named it, ``gpus`` those that may be used here,
    ``summary`` the number of stages of each verdict, ``hints`` say what cannot be known here,
    ``warnings`` what the store has lost.
    """

    format_version: str
    pipeline: str
    spec: str
    store: str
    gpus: int
    changes: bool
    summary: dict[str, int]
    hints: list[str]
    warnings: list[str]
    stages: list[StageDocument]
