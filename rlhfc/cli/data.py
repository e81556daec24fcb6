"""``rlhfc data show``: rows of a stage's token files, token by token, with what is learnt of them."""

from __future__ import annotations

import argparse
import json
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from rlhfc.cli.prepare import prepare
from rlhfc.cli.stages import one_stage
from rlhfc.compile.action import Action, Pipeline
from rlhfc.errors import BOLD, CYAN, PLAIN, Diagnostic, UserError, did_you_mean
from rlhfc.plan.planner import make_plan
from rlhfc.store.store import Store
from rlhfc.terminal import colourful

FORMAT_VERSION = "1.0"
VIEWER = "rlhfc.stages.common.tokenview"
ROWS = frozenset({"demonstrations", "preferences", "prompts"})  # types of outputs that are token files
MARKS = {"answer": (CYAN, "[", "]"), "earlier": (BOLD, "(", ")")}


def run(arguments: argparse.Namespace) -> int:
    """Print rows.

    Raises:
        UserError: the spec, an option or the store is wrong, or there is no such stage, port, split or row.
    """
    prepared = prepare(arguments)
    store = Store.open(prepared.store, rehash=arguments.rehash)
    stage = _stage(arguments.stage, prepared.pipeline)
    planned = make_plan(prepared.pipeline, store, prepared.world.libraries).stages[stage]
    if planned.result is None:
        raise UserError(Diagnostic(f"{stage} has no result yet", hint="`rlhfc run` makes one"))
    port = _named("--port", arguments.port, _ports(prepared.pipeline.actions[stage]), "outputs with rows")
    folder = store.view(planned.result.outputs[port])
    splits = sorted((path.name.partition(".")[0] for path in folder.glob("*.tokens.npy")), reverse=True)
    split = _named("--split", arguments.split, splits, "splits")
    document = _read(folder, split, arguments.row, arguments.count)
    if not document["shown"]:
        told = f"{stage}.{port} has {document['rows']} rows in `{split}`"
        raise UserError(Diagnostic(f"there is no row {arguments.row}: {told}", hint="rows begin with 0"))
    if arguments.json:
        place = {"format_version": FORMAT_VERSION, "stage": stage, "port": port, "split": split}
        print(json.dumps(place | document, indent=2, ensure_ascii=False))
        return 0
    colours = colourful(sys.stdout)
    print("\n".join(_lines(f"{stage}.{port} {split}", document, colours=colours)))
    return 0


def _stage(name: str | None, pipeline: Pipeline) -> str:
    """The stage that is named, else the first that has rows.

    Raises:
        UserError: there is no such stage.
    """
    if name is not None:
        return one_stage("data show", name, pipeline)
    found = next((stage for stage, action in pipeline.actions.items() if _ports(action)), None)
    if found is None:
        raise UserError(Diagnostic("no stage of this pipeline has rows", hint="`data_split` makes some"))
    return found


def _ports(action: Action) -> list[str]:
    return [port for port, kind in action.kind.outputs.items() if kind in ROWS]


def _named(option: str, name: str | None, known: list[str], what: str) -> str:
    """``name`` if it is known, by default the first.

    Raises:
        UserError: it is none of them.
    """
    if not known:
        raise UserError(Diagnostic(f"this stage has no {what}", hint="name one of kind `data_split`"))
    if name is None:
        return known[0]
    if name not in known:
        raise UserError(
            Diagnostic(f"`{option} {name}` is none of the {what}", hint=did_you_mean(name, known, what))
        )
    return name


def _read(folder: Path, split: str, first: int, count: int) -> dict[str, Any]:
    """What the stages' own reader finds: token files and tokenizers are their business.

    Raises:
        UserError: the training libraries are not installed, or the files cannot be read.
    """
    command = [sys.executable, "-m", VIEWER, str(folder), split, str(first), str(count)]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    if done.returncode != 0:
        said = (done.stderr.strip() or "no word").splitlines()[-1]
        hint = "it takes the training libraries: `pip install 'rlhfc[train]'`"
        raise UserError(Diagnostic(f"`{folder}` cannot be shown: {said}", hint=hint))
    document: dict[str, Any] = json.loads(done.stdout)
    return document


def _lines(name: str, document: dict[str, Any], *, colours: bool) -> Iterator[str]:
    for row in document["shown"]:
        yield f"{name}, row {row['row']} of {document['rows']}"
        for segment, tokens in row["segments"].items():
            yield f"  {segment}, {len(tokens)} tokens"
            yield f"    {_text(tokens, colours=colours)}"
    yield "tokens are parted by `|`, one of several that make a character is `·`; " + _legend(colours=colours)


def _text(tokens: list[list[Any]], *, colours: bool) -> str:
    """Tokens in one line, runs of the same mark coloured or bracketed."""
    said, last = [], None
    for _, text, mark in tokens:
        seam = "" if last is None else "|"
        if mark != last:
            said.append(f"{_end(last, colours=colours)}{seam}{_start(mark, colours=colours)}")
            seam = ""
        said.append(seam + (text.replace("\n", "⏎") or "·"))
        last = mark
    return "".join(said) + _end(last, colours=colours)


def _start(mark: str | None, *, colours: bool) -> str:
    colour, opening, _ = MARKS.get(mark or "", ("", "", ""))
    return colour if colours else opening


def _end(mark: str | None, *, colours: bool) -> str:
    colour, _, closing = MARKS.get(mark or "", ("", "", ""))
    return PLAIN * bool(colour) if colours else closing


def _legend(*, colours: bool) -> str:
    answer, earlier = (
        f"{_start(mark, colours=colours)}{word}{_end(mark, colours=colours)}"
        for mark, word in (("answer", "learnt"), ("earlier", "learnt with `loss_on: answers`"))
    )
    return f"{answer}, {earlier}"
