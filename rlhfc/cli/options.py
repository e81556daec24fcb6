"""The options that commands on a pipeline share. Standard library only."""

from __future__ import annotations

import argparse
from pathlib import Path

DEFAULT_STORE = Path(".rlhfc")


def add_spec_options(parser: argparse.ArgumentParser) -> None:
    """Add the spec and ``--set``: all that decides what the spec says."""
    _add_spec(parser)
    _add_set(parser)


def add_pipeline_options(parser: argparse.ArgumentParser) -> None:
    """Add the spec, ``--store``, ``--mirror`` and ``--set``."""
    _add_spec(parser)
    add_store_option(parser)
    parser.add_argument(
        "--mirror",
        metavar="ID=TARGET",
        action="append",
        default=[],
        help="use a local folder, file or `package:NAME/FILE` for a hub id; may be repeated",
    )
    _add_set(parser)


def add_store_option(parser: argparse.ArgumentParser) -> None:
    """Add ``--store``."""
    parser.add_argument(
        "--store",
        metavar="FOLDER",
        type=Path,
        default=DEFAULT_STORE,
        help="where results are kept (default: %(default)s)",
    )


def _add_spec(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("spec", metavar="SPEC", type=Path, help="the pipeline's YAML file")


def _add_set(parser: argparse.ArgumentParser) -> None:
    parser.add_argument(
        "--set",
        metavar="STAGE.FIELD=VALUE",
        dest="overrides",
        action="append",
        default=[],
        help="override a value of the spec; may be repeated",
    )
