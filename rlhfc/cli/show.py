"""``rlhfc show``: one stage, its artefacts, and what its attempts left behind."""

from __future__ import annotations

import argparse
import json

from rlhfc.cli.prepare import prepare
from rlhfc.cli.stages import one_stage
from rlhfc.errors import Diagnostic, UserError
from rlhfc.explain.standing import attempt_words, newest_attempt
from rlhfc.plan.planner import StagePlan, Verdict, make_plan
from rlhfc.plan.quantities import duration, size, value
from rlhfc.plan.words import sentences
from rlhfc.run.attempt import attempts
from rlhfc.run.logs import clean
from rlhfc.run.summary import adjusted_words
from rlhfc.store.checkpoints import newest_with
from rlhfc.store.store import Store

PARTS = ("log", "metrics", "key")


def run(arguments: argparse.Namespace) -> int:
    """Print what is asked for.

    Raises:
        UserError: the spec, an option, a source or the store is wrong, or there is nothing to show.
    """
    prepared = prepare(arguments)
    store = Store.open(prepared.store, rehash=arguments.rehash)
    plan = make_plan(prepared.pipeline, store, prepared.world.libraries)
    asked = next((part for part in PARTS if getattr(arguments, part)), None)
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


def _details(planned: StagePlan, key: str | None, store: Store) -> list[str]:
    lines = [f"stage     {planned.stage} ({planned.kind})", f"state     {planned.verdict}"]
    why = "although" if planned.verdict is Verdict.FROZEN else "because "
    lines += [f"{why}  {text}" for text in sentences(planned.reasons)]
    lines += [f"ignores   {text}" for text in sentences(planned.ignored)]
    if key is None:
        return lines
    lines.append(f"key       {key}")
    if planned.checkpoint:
        lines.append(f"resumes   at step {planned.checkpoint[0]} of {planned.checkpoint[1]}")
    result = planned.result
    if result is not None:
        if (accepted := planned.accepted) is not None:
            lines.append(f"accepted  {accepted.time} by {accepted.who}: {accepted.why}")
            lines.append(f"made as   {accepted.before}")
        lines.append(f"finished  {result.finished}, {duration(result.seconds)}, {size(result.size)}")
        if result.adjusted:
            lines.append(f"fitted    with {adjusted_words(result.adjusted)}, after a lack of memory")
        lines += [_artefact(port, tree, store) for port, tree in result.outputs.items()]
        lines += [f"figure    {name} {value}" for name, value in result.summary.items()]
    for attempt in attempts(store.work(planned.stage, key)):
        lines.append(f"attempt   {attempt.number:03d} {attempt_words(attempt)}  {attempt.folder}")
    return lines


def _artefact(port: str, tree: str, store: Store) -> str:
    """An output with its size and the folder in which it can be read, made when nothing has read it yet."""
    files = store.tree(tree)
    count = "1 file" if len(files) == 1 else f"{len(files)} files"
    try:
        folder = store.view(tree)
    except OSError:  # a store that we may only read
        folder = store.layout.view(tree)
    held = f"{size(sum(file.size for file in files))} in {count}, {value(tree)}"
    return f"artefact  {port} ({held}) {folder}"


def _log(planned: StagePlan, key: str, store: Store) -> str | None:
    newest = newest_attempt(store, planned.stage, key)
    if newest is None or not newest.log.exists():
        return None
    lines = newest.log.read_bytes().decode(errors="replace").split("\n")
    return "\n".join(clean(line) for line in lines)


def _metrics(planned: StagePlan, key: str, store: Store) -> str | None:
    if planned.result is not None:
        return "\n".join(json.dumps(line) for line in store.metrics(planned.result)) or None
    running = newest_with(store.work(planned.stage, key), "metrics.jsonl")
    return running.read_text(encoding="utf-8", errors="replace") if running is not None else None


def _key(planned: StagePlan, key: str, store: Store) -> str | None:
    document = store.key_document(key)
    return json.dumps(document, indent=2, ensure_ascii=False) if document is not None else None


def _nothing(stage: str, what: str) -> UserError:
    name = {"log": "log", "metrics": "metrics", "key": "key document"}[what]
    return UserError(Diagnostic(f"{stage} has no {name} yet", hint="`rlhfc run` makes one"))
