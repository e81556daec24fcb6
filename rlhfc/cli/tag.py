"""``rlhfc tag``: give a result a name, which `rlhfc gc` then keeps; list the names; take one away."""

from __future__ import annotations

import argparse
import json
from collections.abc import Iterator
from dataclasses import asdict

from rlhfc.cli.accept import user_name
from rlhfc.cli.prepare import prepare
from rlhfc.cli.stages import one_stage
from rlhfc.errors import Diagnostic, UserError, did_you_mean
from rlhfc.plan.planner import make_plan
from rlhfc.plan.quantities import value
from rlhfc.store.ledger import utc_now
from rlhfc.store.store import Store
from rlhfc.store.tags import Tag, check_name, read_tags, remove_tag, write_tag


def run(arguments: argparse.Namespace) -> int:
    """Name a result, list the names, or take one away.

    Raises:
        UserError: the arguments, the spec or the store is wrong, or there is no such result or tag.
    """
    name = arguments.name
    if arguments.remove:
        return _remove(arguments)
    if name is None:
        found = list(read_tags(Store.open(arguments.store).layout))
        if arguments.json:
            print(json.dumps([asdict(tag) for tag in found], indent=2, ensure_ascii=False))
        else:
            print("\n".join(_lines(found)) if found else "no tags")
        return 0
    check_name(name)
    tag = _by_key(arguments) if arguments.key is not None else _by_stage(arguments)
    store = Store.create(arguments.store)
    old = next((each for each in read_tags(store.layout) if each.name == name), None)
    if old is not None and old.key != tag.key and not arguments.move:
        hint = "pass `--move` to have it name the other result from now on"
        raise UserError(Diagnostic(f"`{name}` is {old.pipeline}/{old.stage}, {value(old.key)}", hint=hint))
    with store.locks.sharing():
        if store.lookup(tag.key) is None:
            raise UserError(Diagnostic(f"the result under `{tag.key}` is not whole in the store"))
        write_tag(store.layout, tag)
    print(f"{name}: {tag.pipeline}/{tag.stage}, {value(tag.key)}")
    return 0


def _remove(arguments: argparse.Namespace) -> int:
    layout = Store.open(arguments.store).layout
    if arguments.name is None:
        raise UserError(Diagnostic("`--remove` of which tag?", hint="`rlhfc tag` lists them"))
    check_name(arguments.name)
    if not remove_tag(layout, arguments.name):
        known = [tag.name for tag in read_tags(layout)]
        hint = did_you_mean(arguments.name, known, "tags") if known else "the store has none"
        raise UserError(Diagnostic(f"there is no tag `{arguments.name}`", hint=hint))
    print(f"{arguments.name}: removed; the result stays until `rlhfc gc`")
    return 0


def _by_key(arguments: argparse.Namespace) -> Tag:
    """The tag for the only result whose key begins so."""
    if arguments.spec is not None:
        raise UserError(Diagnostic("either `--key` or a spec and a stage, not both"))
    store, start = Store.open(arguments.store), arguments.key
    known = store.keys_from(start) if len(start) >= len("b3:") + 2 and start.startswith("b3:") else []
    if len(known) != 1:
        hint = "give more digits" if known else "`rlhfc show SPEC STAGE` prints keys, such as `b3:0123abcd…`"
        count = f"{len(known)} results" if known else "no result"
        raise UserError(Diagnostic(f"there is {count} under `{start}` in this store", hint=hint))
    made = next((each for each in store.made() if each.key == known[0]), None)
    pipeline, stage = (made.pipeline, made.stage) if made is not None else ("?", "?")
    return Tag(arguments.name, known[0], pipeline, stage, user_name(arguments.store), utc_now())


def _by_stage(arguments: argparse.Namespace) -> Tag:
    if arguments.spec is None or arguments.stage is None:
        hint = f"`rlhfc tag {arguments.name} SPEC STAGE`, or `rlhfc tag {arguments.name} --key KEY`"
        raise UserError(Diagnostic("which result?", hint=hint))
    prepared = prepare(arguments)
    stage = one_stage("tag", arguments.stage, prepared.pipeline)
    plan = make_plan(prepared.pipeline, Store.open(prepared.store), prepared.world.libraries)
    planned = plan.stages[stage]
    if planned.result is None:
        hint = "`rlhfc run` makes it; an earlier result is named with `--key`"
        raise UserError(Diagnostic(f"{stage} has no result for what the spec says now", hint=hint))
    who = user_name(prepared.pipeline.spec.parent)
    return Tag(arguments.name, planned.result.key, plan.pipeline.name, stage, who, utc_now())


def _lines(found: list[Tag]) -> Iterator[str]:
    rows = [("tag", "stage", "key", "since", "by")]
    rows += [(t.name, f"{t.pipeline}/{t.stage}", value(t.key), t.time[:10], t.who) for t in found]
    widths = [max(len(row[column]) for row in rows) for column in range(4)]
    for row in rows:
        yield "  ".join([*(cell.ljust(width) for cell, width in zip(row, widths, strict=False)), row[4]])
