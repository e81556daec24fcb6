"""What a run says at its end: failures, what can be resumed, a table; the same as JSON."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

from rlhfc.plan.quantities import duration
from rlhfc.run.outcome import Failure, RunOutcome, StageOutcome, State

FORMAT_VERSION = "1.0"
TELLING = ("win_rate", "eval_accuracy", "eval_perplexity", "score", "reward", "kl", "eval_loss")
INTERVAL = ("_low", "_high")
FIGURES = 3  # of a stage's summary in the table
HEADER = ("stage", "state", "time", "figures")


def table_lines(outcome: RunOutcome) -> list[str]:
    """Lay out stage, state, time and main figures, one line a stage."""
    return laid_out([HEADER, *(_row(ended) for ended in outcome.stages.values())])


def laid_out(rows: Sequence[Sequence[str]]) -> list[str]:
    """Rows as lines whose columns stand under each other."""
    widths = [max(len(row[column]) for row in rows) for column in range(len(rows[0]))]
    padded = ("  ".join(cell.ljust(width) for cell, width in zip(row, widths, strict=True)) for row in rows)
    return [line.rstrip() for line in padded]


def closing_lines(outcome: RunOutcome, spec: Path) -> list[str]:
    """Tell what went wrong, with the last lines of the logs, and how to go on."""
    lines: list[str] = []
    for ended in outcome.stages.values():
        if ended.state is State.FAILED and ended.failure is not None:
            lines += ["", *_failure_lines(ended, ended.failure, spec)]
        elif ended.state is State.BLOCKED:
            lines.append(f"{ended.stage}: not started, blocked by {', '.join(ended.blocked_by)}")
    going_on = [text for ended in outcome.stages.values() for text in _resumable(ended)]
    if outcome.exit_status != 0 and (going_on or outcome.interrupted):
        stopped = [outcome.reason] if outcome.reason else []
        lines += ["", *stopped, *going_on, "run the same command to continue"]
    return lines


def there_words(outcome: RunOutcome) -> str:
    """How many results were there already, when all were."""
    count = len(outcome.stages)
    frozen = sum(ended.state is State.FROZEN for ended in outcome.stages.values())
    if frozen == count:
        return f"{count} of {count} stages frozen"
    return f"{count - frozen} of {count} stages cached" + (f", {frozen} frozen" if frozen else "")


def run_document(outcome: RunOutcome, report: Path | None) -> dict[str, Any]:
    """The run as plain values. Within format 1 fields are only ever added."""
    return {
        "format_version": FORMAT_VERSION,
        "run": outcome.run,
        "pipeline": outcome.pipeline,
        "nothing_to_do": outcome.nothing_to_do,
        "interrupted": outcome.interrupted,
        "reason": outcome.reason,
        "exit_status": outcome.exit_status,
        "seconds": round(outcome.seconds, 3),
        "report": str(report) if report else None,
        "stages": [_stage(ended) for ended in outcome.stages.values()],
    }


def figures(summary: Mapping[str, float | int | str], limit: int | None = None) -> str:
    """Main figures in words: ``eval_perplexity 8.1, eval_loss 2.09``; the most telling first."""
    names = telling_first(summary)[:limit]
    return ", ".join(f"{name} {number(summary[name])}" for name in names)


def telling_first(names: Iterable[str]) -> list[str]:
    """Sort names of figures, the most telling first, the ends of intervals last."""
    return sorted(names, key=_rank)


def _rank(name: str) -> int:
    if name.endswith(INTERVAL):
        return len(TELLING) + 1
    return next((place for place, start in enumerate(TELLING) if name.startswith(start)), len(TELLING))


def adjusted_words(changes: Mapping[str, int]) -> str:
    """Leaves that a launch had otherwise than the spec: ``micro_batch_size 4``."""
    return ", ".join(f"{name} {value}" for name, value in changes.items())


def number(value: float | int | str) -> str:
    """A figure with the digits that tell something."""
    return f"{value:.4g}" if isinstance(value, float) else str(value)


def _row(ended: StageOutcome) -> tuple[str, ...]:
    seconds = ended.result.seconds if ended.result else ended.seconds
    time = duration(seconds) if seconds else ""
    if ended.result is not None:
        text = figures(ended.result.summary, FIGURES)
    elif ended.failure is not None:
        text = ended.failure.message
    else:
        text = f"by {', '.join(ended.blocked_by)}" if ended.blocked_by else ""
    return ended.stage, str(ended.state), time, text


def _failure_lines(ended: StageOutcome, failure: Failure, spec: Path) -> Iterator[str]:
    yield f"error: {ended.stage}: {failure.message}"
    if failure.tail:
        yield f"its last {len(failure.tail)} lines:"
        yield from (f"  | {line}" for line in failure.tail)
    if failure.hint:
        yield f"hint: {failure.hint}"
    if failure.log is not None:
        yield f"see all with `rlhfc show {spec} {ended.stage} --log`"


def _resumable(ended: StageOutcome) -> Iterator[str]:
    if ended.checkpoint is not None:
        step, total = ended.checkpoint
        yield f"{ended.stage}: will resume at step {step} of {total}"


def _stage(ended: StageOutcome) -> dict[str, Any]:
    result, failure = ended.result, ended.failure
    return {
        "stage": ended.stage,
        "kind": ended.kind,
        "state": str(ended.state),
        "key": ended.key,
        "seconds": round(ended.seconds, 3),
        "attempt": ended.attempt,
        "faults": list(ended.faults),
        "adjusted": dict(ended.adjusted),
        "blocked_by": list(ended.blocked_by),
        "resume": ended.checkpoint and {"step": ended.checkpoint[0], "total": ended.checkpoint[1]},
        "summary": dict(result.summary) if result else None,
        "outputs": dict(result.outputs) if result else None,
        "failure": failure
        and {
            "message": failure.message,
            "hint": failure.hint,
            "returncode": failure.returncode,
            "log": str(failure.log) if failure.log else None,
            "tail": list(failure.tail),
        },
    }
