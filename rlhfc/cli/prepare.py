"""The way from the options of a command to a compiled pipeline."""

from __future__ import annotations

import argparse
from dataclasses import dataclass
from pathlib import Path

from rlhfc.compile.action import Pipeline
from rlhfc.compile.digests import STAT_CACHE, CachedDigester
from rlhfc.compile.pipeline import compile_pipeline
from rlhfc.compile.world import World, this_machine
from rlhfc.spec.load import PipelineSpec, load_pipeline


@dataclass(frozen=True)
class Prepared:
    """A pipeline that is ready to be planned, and what it was compiled with."""

    spec: PipelineSpec
    pipeline: Pipeline
    world: World
    store: Path


def prepare(arguments: argparse.Namespace) -> Prepared:
    """Load and compile the pipeline that the options of :func:`rlhfc.cli.options.add_pipeline_options` name.

    Nothing is written but the stat cache, and that only into a store that exists.

    Raises:
        UserError: the spec, an option or a source is wrong.
    """
    store: Path = arguments.store
    digests = CachedDigester(store / STAT_CACHE)
    spec = load_pipeline(arguments.spec, arguments.overrides, arguments.overlays)
    world = this_machine(arguments.mirror, digests)
    pipeline = compile_pipeline(spec, world)
    digests.save()
    return Prepared(spec, pipeline, world, store)
