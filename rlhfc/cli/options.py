"""The options that commands on a pipeline share. Standard library only."""

from __future__ import annotations

import argparse
from pathlib import Path

DEFAULT_STORE = Path(".rlhfc")


def add_pipeline_options(parser: argparse.ArgumentParser) -> None:
    """Add the spec, ``--overlay``, ``--store``, ``--mirror`` and ``--set``."""
    parser.add_argument("spec", metavar="SPEC", type=Path, help="the pipeline's YAML file")
    parser.add_argument(
        "--overlay",
        metavar="FILE",
        dest="overlays",
        type=Path,
        action="append",
        default=[],
        help="lay a YAML file over the spec; may be repeated",
    )
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
