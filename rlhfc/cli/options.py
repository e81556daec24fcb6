"""The options that commands on a pipeline share. Standard library only."""

from __future__ import annotations

import argparse
from pathlib import Path

DEFAULT_STORE = Path(".rlhfc")


def add_spec_options(parser: argparse.ArgumentParser) -> None:
    """Add the spec, ``--overlay`` and ``--set``: all that decides what the spec says."""
    _add_spec(parser)
    _add_set(parser)


def add_pipeline_options(
    parser: argparse.ArgumentParser, spec: str = "the pipeline's YAML file", count: str | None = None
) -> None:
    """Add the spec (told as ``spec``), where its results and inputs are, and what is laid over it.

    Args:
        parser: the command's.
        spec: what its help says of the spec.
        count: ``?`` where the spec may be left out.
    """
    _add_spec(parser, spec, count)
    add_store_option(parser)
    parser.add_argument(
        "--mirror",
        metavar="ID=TARGET",
        action="append",
        default=[],
        help="use a local folder, file or `package:NAME/FILE` for a hub id; may be repeated",
    )
    parser.add_argument(
        "--rehash",
        action="store_true",
        help="read every input again, also where size and times say that it is unchanged",
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


def _add_spec(
    parser: argparse.ArgumentParser, told: str = "the pipeline's YAML file", count: str | None = None
) -> None:
    parser.add_argument("spec", metavar="SPEC", type=Path, nargs=count, help=told)
    parser.add_argument(
        "--overlay",
        metavar="FILE",
        dest="overlays",
        type=Path,
        action="append",
        default=[],
        help="lay a YAML file over the spec; may be repeated",
    )


def _add_set(parser: argparse.ArgumentParser) -> None:
    parser.add_argument(
        "--set",
        metavar="STAGE.FIELD=VALUE",
        dest="overrides",
        action="append",
        default=[],
        help="override a value of the spec; may be repeated",
    )


def add_selection_options(parser: argparse.ArgumentParser) -> None:
    """Add what narrows a plan or a run down, ``--force`` and ``--thaw``."""
    for option, name, told in (
        ("--target", "target", "it and everything upstream of it"),
        ("--from", "start", "it and everything downstream of it; what that reads must be cached"),
        ("--until", "until", "leave out what is downstream of it"),
        ("--force", "force", "run it whatever the store holds"),
        ("--thaw", "thaw", "take it as neither frozen nor pinned this time"),
    ):
        parser.add_argument(
            option, metavar="STAGE", dest=name, action="append", default=[], help=f"{told}; may be repeated"
        )
