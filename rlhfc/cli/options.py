"""The options that commands on a pipeline share. Standard library only."""

from __future__ import annotations

import argparse
from collections.abc import Callable
from pathlib import Path

DEFAULT_STORE = Path(".rlhfc")


def add_spec_options(parser: argparse.ArgumentParser) -> None:
    """Add the spec, ``--overlay`` and ``--set``: all that decides what the spec says."""
    _add_spec(parser)
    _add_set(parser)


def add_pipeline_options(
    parser: argparse.ArgumentParser, spec: str = "the pipeline's YAML file", *, optional: bool = False
) -> None:
    """Add the spec (told as ``spec``), where its results and inputs are, and what is laid over it."""
    _add_spec(parser, spec, optional=optional)
    add_store_option(parser)
    add_mirror_option(parser)
    parser.add_argument(
        "--rehash",
        action="store_true",
        help="read every input and result again, also where size and times say that it is unchanged",
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


def add_mirror_option(parser: argparse.ArgumentParser) -> None:
    """Add ``--mirror``."""
    told = "use a local folder, file or `package:NAME/FILE` for a hub id"
    add_repeatable(parser, "--mirror", "ID=TARGET", told)


def add_repeatable(
    parser: argparse.ArgumentParser,
    option: str,
    metavar: str,
    told: str,
    *,
    name: str | None = None,
    read: Callable[[str], object] = str,
) -> None:
    """Add an option that may be given several times; ``name`` is that of the list, if not the option's."""
    parser.add_argument(
        option,
        metavar=metavar,
        dest=name,
        type=read,
        action="append",
        default=[],
        help=f"{told}; may be repeated",
    )


def _add_spec(
    parser: argparse.ArgumentParser, told: str = "the pipeline's YAML file", *, optional: bool = False
) -> None:
    parser.add_argument("spec", metavar="SPEC", type=Path, nargs="?" if optional else None, help=told)
    add_repeatable(parser, "--overlay", "FILE", "lay a YAML file over the spec", name="overlays", read=Path)


def _add_set(parser: argparse.ArgumentParser) -> None:
    add_repeatable(parser, "--set", "STAGE.FIELD=VALUE", "override a value of the spec", name="overrides")


def add_selection_options(parser: argparse.ArgumentParser) -> None:
    """Add what narrows a plan or a run down, ``--force`` and ``--thaw``."""
    for option, name, told in (
        ("--target", "target", "it and everything upstream of it"),
        ("--from", "start", "it and everything downstream of it; what that reads must be cached"),
        ("--until", "until", "leave out what is downstream of it"),
        ("--force", "force", "run it whatever the store holds"),
        ("--thaw", "thaw", "take it as neither frozen nor pinned this time"),
    ):
        add_repeatable(parser, option, "STAGE", told, name=name)
