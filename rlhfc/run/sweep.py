"""A sweep at its end: one table of variants and figures for each stage that the matrix multiplies last."""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from rlhfc.compile.action import Action, Pipeline, stage_of
from rlhfc.run.outcome import RunOutcome
from rlhfc.run.summary import INTERVAL, laid_out, number, telling_first

COLUMNS = 4  # of figures; the ends of intervals are in the JSON form

Summary = Mapping[str, float | int | str]


@dataclass(frozen=True)
class Sweep:
    """The variants of one stage that no other variant reads from.

    Attributes:
        stage: as the spec calls it.
        variants: by full name.
    """

    stage: str
    variants: Mapping[str, Action]

    @property
    def axes(self) -> list[str]:
        """Their axes, in the order of the matrix."""
        return list(next(iter(self.variants.values())).variant)


def sweeps(pipeline: Pipeline, among: Collection[str]) -> list[Sweep]:
    """Stages whose variants are to be compared, in the order of the pipeline.

    Args:
        pipeline: all stages.
        among: those that count: all, or the part of the pipeline that a run was asked for.
    """
    multiplied = {
        name: action for name, action in pipeline.actions.items() if action.variant and name in among
    }
    read = {upstream for name in multiplied for upstream in pipeline.upstream(name)}
    last: dict[str, dict[str, Action]] = {}
    for name, action in multiplied.items():
        if name not in read:
            last.setdefault(stage_of(name), {})[name] = action
    return [Sweep(stage, variants) for stage, variants in last.items()]


def table(sweep: Sweep, ends: Mapping[str, tuple[str, Summary]]) -> list[tuple[str, ...]]:
    """A heading and a row for each variant: values of the axes, state, the most telling figures.

    Args:
        sweep: the variants.
        ends: state and figures of each, by name.
    """
    names = dict.fromkeys(name for variant in sweep.variants for name in ends[variant][1])
    figures = [name for name in telling_first(names) if not name.endswith(INTERVAL)][:COLUMNS]
    rows = [(*sweep.axes, "state", *figures)]
    for variant, action in sweep.variants.items():
        state, summary = ends[variant]
        values = (_written(value) for value in action.variant.values())
        rows.append((*values, state, *(number(summary.get(name, "")) for name in figures)))
    return rows


def sweep_lines(found: Sequence[Sweep], outcome: RunOutcome) -> list[str]:
    """A table for each sweep, below its stage and the number of its variants."""
    ends = {name: (str(ended.state), _summary(outcome, name) or {}) for name, ended in outcome.stages.items()}
    lines: list[str] = []
    for sweep in found:
        count = len(sweep.variants)
        heading = f"{sweep.stage}: {count} variant{'' if count == 1 else 's'}"
        lines += ["", heading, *laid_out(table(sweep, ends))]
    return lines


def sweep_documents(found: Sequence[Sweep], outcome: RunOutcome) -> list[dict[str, Any]]:
    """The same as plain values, with all figures."""
    return [
        {
            "stage": sweep.stage,
            "axes": sweep.axes,
            "variants": [
                {
                    "stage": name,
                    "values": dict(action.variant),
                    "state": str(outcome.stages[name].state),
                    "summary": _summary(outcome, name),
                }
                for name, action in sweep.variants.items()
            ],
        }
        for sweep in found
    ]


def _summary(outcome: RunOutcome, stage: str) -> dict[str, float | int | str] | None:
    result = outcome.stages[stage].result
    return dict(result.summary) if result is not None else None


def _written(value: str | int | float | bool | None) -> str:
    if isinstance(value, bool) or value is None:
        return {True: "true", False: "false", None: "null"}[value]
    return str(value)
