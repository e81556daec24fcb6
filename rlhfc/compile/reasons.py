"""Why a stage runs or cannot be decided: a closed set of codes, recorded where the decision is made."""

from __future__ import annotations

from dataclasses import dataclass
from enum import StrEnum
from typing import Any


class ReasonCode(StrEnum):
    """The closed set. Sentences are in :mod:`rlhfc.plan.words`."""

    NEVER_RUN = "never_run"
    KIND_CHANGED = "kind_changed"
    ABI_CHANGED = "abi_changed"
    PARAMETER_CHANGED = "parameter_changed"
    SETTING_CHANGED = "setting_changed"
    ENGINE_CHANGED = "engine_changed"
    INPUT_CHANGED = "input_changed"
    CODE_CHANGED = "code_changed"
    LIBRARY_CHANGED = "library_changed"
    COMMAND_CHANGED = "command_changed"
    UPSTREAM_PENDING = "upstream_pending"
    SOURCE_UNRESOLVED = "source_unresolved"
    LIBRARY_MISSING = "library_missing"
    RESULT_MISSING = "result_missing"
    OUTPUT_MISSING = "output_missing"
    RECORD_MISSING = "record_missing"
    FORCED = "forced"


PENDING = frozenset({ReasonCode.UPSTREAM_PENDING, ReasonCode.SOURCE_UNRESOLVED, ReasonCode.LIBRARY_MISSING})
"""Codes that leave a key undecided."""


@dataclass(frozen=True)
class Reason:
    """One cause.

    Attributes:
        code: which kind of cause.
        path: what it is about: a dotted leaf (``kl_coef``, ``engines.actor.lora``), an input address,
            a file of the stage's code, a distribution, an output port.
        before: value in the last run; None also where there was none.
        after: value now; for an upstream that is pending ``stage.port``, for a source that cannot be
            resolved the sentence that says why.
    """

    code: ReasonCode
    path: str = ""
    before: Any = None
    after: Any = None
