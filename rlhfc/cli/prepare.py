"""The way from the options of a command to a compiled pipeline."""

from __future__ import annotations

import argparse
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from rlhfc.cli.saved import holds_plan
from rlhfc.compile.action import Pipeline
from rlhfc.compile.digests import CachedDigester
from rlhfc.compile.pipeline import compile_pipeline
from rlhfc.compile.world import World, this_machine
from rlhfc.errors import Diagnostic, UserError
from rlhfc.spec.load import PipelineSpec, load_pipeline
from rlhfc.store.layout import STAT_CACHE
from rlhfc.trust import read_trust


@dataclass(frozen=True)
class Prepared:
    """A pipeline that is ready to be planned, and what it was compiled with."""

    spec: PipelineSpec
    pipeline: Pipeline
    world: World
    store: Path
    warnings: tuple[str, ...] = ()


def prepare(arguments: argparse.Namespace) -> Prepared:
    """Load and compile the pipeline that the options of :func:`rlhfc.cli.options.add_pipeline_options` name.

    Nothing is written but the stat cache, and that only into a store that exists.

    Raises:
        UserError: the spec, an option or a source is wrong.
    """
    if holds_plan(arguments.spec):
        hint = f"carry it out with `rlhfc run {arguments.spec}`, or name the spec that it was made from"
        raise UserError(Diagnostic(f"`{arguments.spec}` is a saved plan, and no spec", hint=hint))
    store: Path = arguments.store
    digests = CachedDigester(store / STAT_CACHE, rehash=arguments.rehash)
    trust = read_trust(options=getattr(arguments, "saved", None))
    spec = load_pipeline(arguments.spec, arguments.overrides, arguments.overlays, trust=trust)
    world = this_machine(arguments.mirror, digests, trust=trust)
    pipeline = compile_pipeline(spec, world)
    digests.save()
    return Prepared(spec, pipeline, world, store, tuple(_believed(digests)))


def _believed(digests: CachedDigester) -> Iterator[str]:
    """What was not read again although its time stamps prove nothing."""
    for kind in sorted(set(digests.believed.values())):
        files = [path for path, found in digests.believed.items() if found == kind]
        count = f"`{files[0]}`" if len(files) == 1 else f"`{files[0]}` and {len(files) - 1} more"
        yield f"{count} on {kind}: taken as unchanged by size and times; `--rehash` reads again"
