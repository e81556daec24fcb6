"""``rlhfc gc``: remove what nobody needs from the store, or show what that would be."""

from __future__ import annotations

import argparse
import json
import sys
from collections.abc import Iterator
from functools import partial
from pathlib import Path

from rlhfc.cli.collected import removal_document, removal_lines
from rlhfc.cli.prepare import prepare
from rlhfc.errors import Diagnostic, UserError
from rlhfc.plan.estimate import taken
from rlhfc.plan.planner import make_plan
from rlhfc.plan.quantities import size
from rlhfc.store.layout import check_version
from rlhfc.store.leases import LostLockError
from rlhfc.store.pins import read_pins
from rlhfc.store.store import Store
from rlhfc.store.tags import damaged_tags, read_tags
from rlhfc.upkeep.inventory import Inventory, file_system_now, take_inventory
from rlhfc.upkeep.marks import Cost, Policy, Removal, Roots, choose
from rlhfc.upkeep.quota import bytes_of, write_quota
from rlhfc.upkeep.sweep import sweep

HOUR, DAY = 3600.0, 24 * 3600.0


def run(arguments: argparse.Namespace) -> int:
    """Remove, or with ``--plan`` show. The status is 1 when less could be freed than ``--free`` asks for.

    Raises:
        UserError: an option, a kept spec, a tag or the store is wrong.
    """
    if not check_version(arguments.store):
        hint = "name the store with `--store`"
        raise UserError(Diagnostic(f"there is no store at `{arguments.store}`", hint=hint))
    if arguments.quota is not None:
        return _set_quota(arguments)
    policy = Policy(
        keep_runs=arguments.keep_runs,
        grace=arguments.grace * HOUR,
        old=arguments.old * DAY,
        free=bytes_of("--free", arguments.free) if arguments.free is not None else None,
    )
    planned = frozenset(key for spec in arguments.keep for key in _keys_of(spec, arguments))
    store = Store.open(arguments.store) if arguments.plan else Store.create(arguments.store)
    inventory = take_inventory(store.layout, policy.old)
    decide = partial(_decide, store=store, planned=planned, policy=policy)
    try:
        removal = decide(inventory) if arguments.plan else sweep(store, inventory, decide, policy.old)
    except LostLockError as lost:
        hint = "run the same command again: what is left goes then"
        raise UserError(Diagnostic(str(lost), hint=hint)) from lost
    document = removal_document(removal, inventory, policy, str(arguments.store), done=not arguments.plan)
    if arguments.json:
        print(json.dumps(document, indent=2, ensure_ascii=False))
    else:
        print("\n".join(removal_lines(document)))
    if policy.free is not None and removal.size < policy.free:
        short = size(policy.free - removal.size)
        print(f"{short} less than `--free` asks for: the rest is kept", file=sys.stderr)
        print("hint: keep less with `--keep-runs` and `--grace`, or remove tags", file=sys.stderr)
        return 1
    return 0


def _decide(inventory: Inventory, store: Store, planned: frozenset[str], policy: Policy) -> Removal:
    """What goes, by the roots of now. Under the lock, when it is in earnest.

    Raises:
        UserError: a tag is damaged, and nobody knows what it keeps.
    """
    if damaged := damaged_tags(store.layout):
        hint = "remove the file, and name the result again with `rlhfc tag`"
        raise UserError(Diagnostic(f"the tag `{path}` is damaged", hint=hint) for path in damaged)
    now = file_system_now(store.layout)
    pins = [pin for pin in read_pins(store.layout) if pin.lives(now)]
    roots = Roots(
        planned=planned,
        tagged=frozenset(tag.key for tag in read_tags(store.layout)),
        pinned=frozenset(key for pin in pins for key in pin.keys),
        trees=frozenset(tree for pin in pins for tree in pin.trees),
        made=tuple(store.made()),
    )

    def cost(key: str, seconds: float) -> Cost:
        return taken(store.key_document(key), seconds)

    return choose(inventory, roots, policy, cost)


def _keys_of(spec: Path, arguments: argparse.Namespace) -> Iterator[str]:
    """Keys of a spec as it is planned now, and those under which its stages were last done."""
    options = {"spec": spec, "overlays": [], "overrides": [], "rehash": False}
    prepared = prepare(argparse.Namespace(store=arguments.store, mirror=arguments.mirror, **options))
    store = Store.open(prepared.store)
    plan = make_plan(prepared.pipeline, store, prepared.world.libraries)
    for name, planned in plan.stages.items():
        for key in (planned.key, store.last_key(plan.pipeline.name, name)):
            if key is not None:
                yield key


def _set_quota(arguments: argparse.Namespace) -> int:
    store = Store.create(arguments.store)
    if arguments.quota == "none":
        write_quota(store.layout, None)
        print(f"the store `{arguments.store}` has no quota")
        return 0
    limit = bytes_of("--quota", arguments.quota)
    write_quota(store.layout, limit)
    print(f"quota of the store `{arguments.store}`: {size(limit)}")
    return 0
