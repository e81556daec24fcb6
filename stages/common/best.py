"""Which step did best on the held-out rows, and when it is time to stop."""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Any

from rlhfc.kind import BestParams

HIGHER_IS_BETTER = {"eval_loss": False, "eval_accuracy": True}


class Best:
    """The best evaluation so far; part of a checkpoint, so that a resumed stage chooses alike.

    Args:
        how: what decides and when; None: the last step is the one, whatever it is worth.
        total: the last step.

    Attributes:
        step: of the best evaluation; None before the first.
        figures: what that evaluation said.
    """

    def __init__(self, how: BestParams | None, total: int) -> None:
        self._how, self._total = how, total
        self.step: int | None = None
        self.figures: dict[str, float] = {}
        self._worse = 0

    def due(self, step: int) -> bool:
        """Whether an evaluation after this step decides."""
        return self._how is not None and (step % self._how.every == 0 or step == self._total)

    def take(self, step: int, figures: Mapping[str, float]) -> bool:
        """Note an evaluation that decides; tells whether it is the best, which only a finite one can be."""
        value = self._value(figures)
        if not math.isfinite(value) or (self.step is not None and value <= self._value(self.figures)):
            self._worse += 1
            return False
        self.step, self.figures, self._worse = step, dict(figures), 0
        return True

    @property
    def exhausted(self) -> bool:
        """Whether there have been too many evaluations in a row without a better one."""
        patience = self._how.patience if self._how is not None else None
        return patience is not None and self._worse >= patience

    def state_dict(self) -> dict[str, Any]:
        """All of it."""
        return {"step": self.step, "figures": dict(self.figures), "worse": self._worse}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Be as what :meth:`state_dict` said."""
        self.step, self.figures, self._worse = state["step"], dict(state["figures"]), state["worse"]

    def _value(self, figures: Mapping[str, float]) -> float:
        """Figure that decides, so that more is better."""
        assert self._how is not None
        value = float(figures[self._how.by])
        return value if HIGHER_IS_BETTER[self._how.by] else -value
