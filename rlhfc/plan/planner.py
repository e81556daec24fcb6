"""A plan: the verdict on every stage, from values alone."""

from __future__ import annotations

from collections.abc import Collection, Mapping
from dataclasses import dataclass

from rlhfc.compile.action import Pipeline
from rlhfc.compile.world import Libraries
from rlhfc.errors import Diagnostic, UserError
from rlhfc.plan.decide import decide
from rlhfc.plan.verdict import StagePlan, StoreReader, Verdict

__all__ = ["Plan", "StagePlan", "Verdict", "make_plan"]


@dataclass(frozen=True)
class Plan:
    """Verdicts in topological order."""

    pipeline: Pipeline
    stages: Mapping[str, StagePlan]

    def count(self, verdict: Verdict) -> int:
        """How many stages have a verdict."""
        return sum(stage.verdict is verdict for stage in self.stages.values())

    @property
    def nothing_to_do(self) -> bool:
        """Whether a run would neither launch nor fetch anything."""
        done = (Verdict.CACHED, Verdict.FROZEN, Verdict.SKIPPED)
        return sum(map(self.count, done)) == len(self.stages)


def make_plan(
    pipeline: Pipeline, store: StoreReader, libraries: Libraries, forced: Collection[str] = ()
) -> Plan:
    """Decide every stage from values alone; nothing is launched or written.

    Args:
        pipeline: the compiled spec.
        store: results, key documents and checkpoints there are.
        libraries: version of an installed distribution.
        forced: stages that run whatever the store holds.

    Raises:
        UserError: a launch template fails, or a stage holds a result that is not there.
    """
    outputs: dict[tuple[str, str], str] = {}
    stages: dict[str, StagePlan] = {}
    faults: list[Diagnostic] = []
    for name, action in pipeline.actions.items():
        try:
            planned = decide(action, outputs, store, libraries, forced=name in forced)
        except UserError as error:
            faults.extend(error.diagnostics)
            continue
        stages[name] = planned
        if planned.result is not None:
            outputs.update({(name, port): tree for port, tree in planned.result.outputs.items()})
    if faults:
        raise UserError(dict.fromkeys(faults))
    return Plan(pipeline, stages)
