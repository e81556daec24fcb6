"""``rlhfc accept``: let a stage's last result stand for what the spec says now, and say who says so."""

from __future__ import annotations

import argparse
import getpass
import subprocess
from pathlib import Path

from rlhfc.cli.prepare import prepare
from rlhfc.cli.stages import one_stage
from rlhfc.errors import Diagnostic, UserError
from rlhfc.plan.accept import Candidate, candidate
from rlhfc.plan.planner import make_plan
from rlhfc.plan.quantities import value
from rlhfc.plan.words import sentences
from rlhfc.store.holder import Holder
from rlhfc.store.leases import LostLockError
from rlhfc.store.ledger import utc_now
from rlhfc.store.records import Acceptance, DamagedRecordError
from rlhfc.store.store import Store

GIT_SECONDS = 2.0


def run(arguments: argparse.Namespace) -> int:
    """Accept the result and say what for.

    Raises:
        UserError: the spec, an option, a source or the store is wrong, or there is nothing to accept.
    """
    prepared = prepare(arguments)
    stage = one_stage("accept", arguments.stage, prepared.pipeline)
    why = arguments.why.strip()
    if not why:
        raise UserError(Diagnostic("`--why` is empty", hint="say why the result still holds"))
    reader = Store.open(prepared.store, rehash=arguments.rehash)
    plan = make_plan(prepared.pipeline, reader, prepared.world.libraries)
    planned = plan.stages[stage]
    found = candidate(prepared.pipeline.actions[stage], planned, reader)
    who = arguments.who or user_name(prepared.pipeline.spec.parent)
    grounds = Acceptance(found.result.key, who, why, utc_now())
    _write(Store.create(prepared.store, rehash=arguments.rehash), found, grounds, (plan.pipeline.name, stage))
    although = f", although {', '.join(sentences(found.changes))}" if found.changes else ""
    print(f"{stage}: accepted {value(found.result.key)} as {value(found.known.key)}{although}")
    return 0


def _write(store: Store, found: Candidate, grounds: Acceptance, stage: tuple[str, str]) -> None:
    key = found.known.key
    with store.locks.free_key(key, Holder.me()) as held:
        if held is None:
            message = f"{stage[1]}: a run is making the result under `{key}` now"
            raise UserError(Diagnostic(message, hint="stop it, or let it end"))
        if store.lookup(key) is not None:
            raise UserError(Diagnostic(f"{stage[1]}: a run has made the result under `{key}` meanwhile"))
        try:
            store.accept(found.result, key, found.stored, grounds, stage)
        except (DamagedRecordError, LostLockError) as error:  # removal was at work
            raise UserError(Diagnostic(f"{stage[1]}: {error}", hint="run the same command again")) from error


def user_name(folder: Path) -> str:
    """Who works here, as git knows it, else the login.

    Raises:
        UserError: neither knows.
    """
    try:
        asked = subprocess.run(
            ["git", "config", "user.name"],
            cwd=folder,
            capture_output=True,
            text=True,
            timeout=GIT_SECONDS,
            check=False,
        )
        name = asked.stdout.strip()
    except (OSError, subprocess.TimeoutExpired):  # no git here, or one that hangs
        name = ""
    try:
        return name or getpass.getuser()
    except (OSError, KeyError) as error:  # an account without a name, as in some containers
        raise UserError(Diagnostic("nobody knows who you are", hint="say it with `--who NAME`")) from error
