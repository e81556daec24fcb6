"""What ``plan`` and ``run`` share: their options, and the way from these to a compiled pipeline."""

from __future__ import annotations

import argparse
from dataclasses import dataclass
from pathlib import Path

from rlhfc.compile.action import Pipeline
from rlhfc.compile.digests import STAT_CACHE, CachedDigester
from rlhfc.compile.pipeline import compile_pipeline
from rlhfc.compile.world import World, this_machine
from rlhfc.spec.load import PipelineSpec, load_pipeline

DEFAULT_STORE = Path(".rlhfc")


@dataclass(frozen=True)
class Prepared:
    """A pipeline that is ready to be planned, and what it was compiled with."""

    spec: PipelineSpec
    pipeline: Pipeline
    world: World
    store: Path


def add_pipeline_options(parser: argparse.ArgumentParser) -> None:
    """Add the spec, ``--store``, ``--mirror`` and ``--set``."""
    parser.add_argument("spec", metavar="SPEC", type=Path, help="the pipeline's YAML file")
    parser.add_argument(
        "--store",
        metavar="FOLDER",
        type=Path,
        default=DEFAULT_STORE,
        help="where results are kept (default: %(default)s)",
    )
    parser.add_argument(
        "--mirror",
        metavar="ID=TARGET",
        action="append",
        default=[],
        help="use a local folder, file or `package:NAME/FILE` for a hub id; may be repeated",
    )
    parser.add_argument(
        "--set",
        metavar="STAGE.FIELD=VALUE",
        dest="overrides",
        action="append",
        default=[],
        help="override a value of the spec; may be repeated",
    )


def prepare(arguments: argparse.Namespace) -> Prepared:
    """Load and compile the pipeline that the options of :func:`add_pipeline_options` name.

    Nothing is written but the stat cache, and that only into a store that exists.

    Raises:
        UserError: the spec, an option or a source is wrong.
    """
    store: Path = arguments.store
    digests = CachedDigester(store / STAT_CACHE)
    spec = load_pipeline(arguments.spec, arguments.overrides)
    world = this_machine(arguments.mirror, digests)
    pipeline = compile_pipeline(spec, world)
    digests.save()
    return Prepared(spec, pipeline, world, store)
