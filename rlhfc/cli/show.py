"""``rlhfc show``: where the stages of a pipeline stand, and what the newest attempt left behind."""

from __future__ import annotations

import argparse
import json
from pathlib import Path

from rlhfc.cli.options import add_pipeline_options
from rlhfc.cli.prepare import prepare
from rlhfc.cli.stages import one_stage
from rlhfc.errors import Diagnostic, UserError
from rlhfc.plan.planner import Plan, StagePlan, make_plan
from rlhfc.plan.quantities import duration, size
from rlhfc.plan.words import sentences
from rlhfc.run.attempt import Attempt, attempts
from rlhfc.run.logs import clean
from rlhfc.run.summary import figures, laid_out
from rlhfc.store.store import Store

PARTS = ("log", "metrics", "key")


def configure(parser: argparse.ArgumentParser) -> None:
    """Add the command's arguments."""
    add_pipeline_options(parser)
    parser.add_argument("stage", metavar="STAGE", nargs="?", help="show this stage only")
    part = parser.add_mutually_exclusive_group()
    part.add_argument("--log", action="store_true", help="print the log of the newest attempt")
    part.add_argument("--metrics", action="store_true", help="print the metrics, one JSON object a line")
    part.add_argument("--key", action="store_true", help="print the key document as JSON")


def run(arguments: argparse.Namespace) -> int:
    """Print what is asked for.

    Raises:
        UserError: the spec, an option, a source or the store is wrong, or there is nothing to show.
    """
    prepared = prepare(arguments)
    store = Store.open(prepared.store)
    plan = make_plan(prepared.pipeline, store, prepared.world.libraries)
    asked = next((part for part in PARTS if getattr(arguments, part)), None)
    if arguments.stage is None:
        if asked is not None:
            raise UserError(
                Diagnostic(f"`--{asked}` needs a stage", hint=f"name it: `rlhfc show SPEC STAGE --{asked}`")
            )
        print("\n".join(_overview(plan, store)))
        return 0
    planned = plan.stages[one_stage("show", arguments.stage, prepared.pipeline)]
    key = planned.key or store.last_key(plan.pipeline.name, planned.stage)
    if asked is None:
        print("\n".join(_details(planned, key, store)))
        return 0
    if key is None:
        raise _nothing(planned.stage, asked)
    text = {"log": _log, "metrics": _metrics, "key": _key}[asked](planned, key, store)
    if text is None:
        raise _nothing(planned.stage, asked)
    print(text.rstrip("\n"))
    return 0


def _overview(plan: Plan, store: Store) -> list[str]:
    rows = [("stage", "kind", "state", "last attempt", "figures")]
    for planned in plan.stages.values():
        newest = _newest(planned, planned.key or store.last_key(plan.pipeline.name, planned.stage), store)
        shown = figures(planned.result.summary, 2) if planned.result else ""
        rows.append((planned.stage, planned.kind, str(planned.verdict), _attempt_words(newest), shown))
    return laid_out(rows)


def _details(planned: StagePlan, key: str | None, store: Store) -> list[str]:
    lines = [f"stage     {planned.stage} ({planned.kind})", f"state     {planned.verdict}"]
    lines += [f"because   {text}" for text in sentences(planned.reasons)]
    if key is None:
        return lines
    lines.append(f"key       {key}")
    if planned.checkpoint:
        lines.append(f"resumes   at step {planned.checkpoint[0]} of {planned.checkpoint[1]}")
    result = planned.result
    if result is not None:
        lines.append(f"finished  {result.finished}, {duration(result.seconds)}, {size(result.size)}")
        lines += [f"output    {port} {store.layout.view(tree)}" for port, tree in result.outputs.items()]
        lines += [f"figure    {name} {value}" for name, value in result.summary.items()]
    for attempt in attempts(store.work(planned.stage, key)):
        lines.append(f"attempt   {attempt.number:03d} {_attempt_words(attempt)}  {attempt.folder}")
    return lines


def _attempt_words(attempt: Attempt | None) -> str:
    status = attempt.status() if attempt else None
    if status is None:
        return ""
    if status.state == "running" and not (status.head and status.head.lives()):
        return "died with its run"
    words = f"{status.state} {duration(status.seconds)}" if status.ended else status.state
    return f"{words}: {status.reason}" if status.reason else words


def _newest(planned: StagePlan, key: str | None, store: Store) -> Attempt | None:
    found = attempts(store.work(planned.stage, key)) if key else []
    return found[-1] if found else None


def _log(planned: StagePlan, key: str, store: Store) -> str | None:
    newest = _newest(planned, key, store)
    if newest is None or not newest.log.exists():
        return None
    lines = newest.log.read_bytes().decode(errors="replace").split("\n")
    return "\n".join(clean(line) for line in lines)


def _metrics(planned: StagePlan, key: str, store: Store) -> str | None:
    if planned.result is not None:
        return "\n".join(json.dumps(line) for line in store.metrics(planned.result)) or None
    running: Path = store.work(planned.stage, key) / "metrics.jsonl"
    return running.read_text(encoding="utf-8", errors="replace") if running.exists() else None


def _key(planned: StagePlan, key: str, store: Store) -> str | None:
    document = store.key_document(key)
    return json.dumps(document, indent=2, ensure_ascii=False) if document is not None else None


def _nothing(stage: str, what: str) -> UserError:
    name = {"log": "log", "metrics": "metrics", "key": "key document"}[what]
    return UserError(Diagnostic(f"{stage} has no {name} yet", hint="`rlhfc run` makes one"))
