"""What each command takes, in one place and without what the commands need to do their work.

So ``--help`` of any command, a mistake on the command line and shell completion are answered with
the standard library alone. A command's own module is imported when its arguments have been read.
"""

from __future__ import annotations

import argparse
from functools import partial
from pathlib import Path

from rlhfc.cli.options import (
    add_mirror_option,
    add_pipeline_options,
    add_repeatable,
    add_selection_options,
    add_spec_options,
    add_store_option,
)
from rlhfc.cli.values import amount, count, key, whole

SIDE = "a run (`last`, `last~1`, or how it begins), a spec, or REVISION:SPEC as git has it"
MODEL = "HuggingFaceTB/SmolLM2-135M-Instruct"


def init(parser: argparse.ArgumentParser) -> None:
    """Add the arguments of ``rlhfc init``."""
    parser.add_argument(
        "folder", metavar="DIR", type=Path, nargs="?", default=Path(), help="where (default: here)"
    )
    parser.add_argument(
        "--model",
        metavar="PATH|HUB_ID",
        default=MODEL,
        help=f"folder, GGUF file or hub id (default: {MODEL})",
    )


def plan(parser: argparse.ArgumentParser) -> None:
    """Add the arguments of ``rlhfc plan``."""
    add_pipeline_options(parser)
    add_selection_options(parser)
    parser.add_argument("--json", action="store_true", help="print the plan as JSON")
    parser.add_argument(
        "--detailed-exitcode", action="store_true", help="exit with 2 when there is something to do"
    )
    parser.add_argument(
        "--remote", action="store_true", help="ask the shared store (`RLHFC_REMOTE`) for what is not here"
    )
    parser.add_argument(
        "--show",
        metavar="STAGE",
        nargs="*",
        help="print command, resolved config and DeepSpeed configs of these stages, or of all",
    )
    parser.add_argument(
        "-o", "--output", metavar="FILE", type=Path, help="save the plan, for `rlhfc run FILE` to carry out"
    )


def run(parser: argparse.ArgumentParser) -> None:
    """Add the arguments of ``rlhfc run``."""
    add_pipeline_options(parser, "the pipeline's YAML file, or a plan that was saved with `rlhfc plan -o`")
    add_selection_options(parser)
    parser.add_argument(
        "--stop-before",
        metavar="TIME",
        help="save and stop before this moment (`2026-11-23T08:00`), or within this time (`3h50m`)",
    )
    parser.add_argument(
        "--stop-margin",
        metavar="TIME",
        help="how long before `--stop-before` stages are asked to save, at least (default: 2min)",
    )
    parser.add_argument(
        "--no-space-check", action="store_true", help="run also where the disk looks too small"
    )
    shown = parser.add_mutually_exclusive_group()
    shown.add_argument("--quiet", action="store_true", help="show no progress")
    shown.add_argument("-v", "--verbose", action="store_true", help="show the stages' logs as they grow")
    parser.add_argument("--json", action="store_true", help="print the outcome as JSON")
    parser.add_argument("--offline", action="store_true", help="ask neither the shared store nor the hub")


def push(parser: argparse.ArgumentParser) -> None:
    """Add the arguments of ``rlhfc push``."""
    _add_shared(parser, "--to", "to", "where to", "every result of the store")


def pull(parser: argparse.ArgumentParser) -> None:
    """Add the arguments of ``rlhfc pull``."""
    _add_shared(parser, "--from", "source", "where from", "every result there")


def _add_shared(parser: argparse.ArgumentParser, option: str, name: str, place: str, rest: str) -> None:
    add_pipeline_options(parser, f"results of this pipeline (default: {rest})", optional=True)
    parser.add_argument(
        option, metavar="URL", dest=name, help=f"{place}: a folder, `s3://…` (default: `RLHFC_REMOTE`)"
    )
    add_repeatable(parser, "--key", "KEY", "the result under this key, whatever spec it is of", read=key)
    parser.add_argument("--json", action="store_true", help="print what came of each result as JSON")


def accept(parser: argparse.ArgumentParser) -> None:
    """Add the arguments of ``rlhfc accept``."""
    add_pipeline_options(parser)
    parser.add_argument("stage", metavar="STAGE", help="the stage whose last result is accepted")
    parser.add_argument("--why", metavar="TEXT", required=True, help="reason, kept in the ledger")
    parser.add_argument("--who", metavar="NAME", help="who accepts it (default: git's user, else the login)")


def show(parser: argparse.ArgumentParser) -> None:
    """Add the arguments of ``rlhfc show``."""
    add_pipeline_options(parser)
    parser.add_argument("stage", metavar="STAGE", help="the stage to show")
    part = parser.add_mutually_exclusive_group()
    part.add_argument("--log", action="store_true", help="print the log of the newest attempt")
    part.add_argument("--metrics", action="store_true", help="print the metrics, one JSON object a line")
    part.add_argument("--key", action="store_true", help="print the key document as JSON")


def data(parser: argparse.ArgumentParser) -> None:
    """Add the arguments of ``rlhfc data``."""
    parser.add_argument("action", choices=["show"], help="print rows, token by token")
    add_pipeline_options(parser)
    parser.add_argument(
        "stage", metavar="STAGE", nargs="?", help="whose rows (default: the first that has some)"
    )
    parser.add_argument("--port", metavar="NAME", help="output to read (default: its first with rows)")
    parser.add_argument(
        "--split", metavar="NAME", help="`train` or `eval` (default: `train` where there is one)"
    )
    parser.add_argument(
        "--row", metavar="N", type=partial(whole, "--row"), default=0, help="first row, from 0 (default: 0)"
    )
    parser.add_argument("-n", "--count", metavar="N", type=count, default=3, help="how many (default: 3)")
    parser.add_argument("--json", action="store_true", help="print ids, texts and marks as JSON")


def report(parser: argparse.ArgumentParser) -> None:
    """Add the arguments of ``rlhfc report``."""
    add_pipeline_options(parser)
    parser.add_argument("--output", metavar="FILE", type=Path, help="where to (default: in the store)")


def fsck(parser: argparse.ArgumentParser) -> None:
    """Add the arguments of ``rlhfc fsck``."""
    add_store_option(parser)
    parser.add_argument(
        "--repair",
        action="store_true",
        help="move what is damaged or superfluous to quarantine, and forget results that are not whole",
    )
    parser.add_argument(
        "--quick", action="store_true", help="read no file whose time stamp says that it is as it was"
    )
    parser.add_argument("--json", action="store_true", help="print the findings as JSON")


def trust(parser: argparse.ArgumentParser) -> None:
    """Add the arguments of ``rlhfc trust``."""
    parser.add_argument(
        "folders", metavar="DIR", type=Path, nargs="*", help="a folder whose Python may run, all below it too"
    )
    parser.add_argument("--remove", action="store_true", help="trust the folders no longer")
    parser.add_argument("--list", action="store_true", help="print the folders that are trusted")


def schema(parser: argparse.ArgumentParser) -> None:
    """Add the arguments of ``rlhfc schema``."""
    parser.add_argument(
        "--output",
        metavar="DIR",
        type=Path,
        default=Path("schemas"),
        help="folder of the schemas (default: schemas)",
    )
    parser.add_argument(
        "--check", action="store_true", help="write nothing; exit with 1 when a file is stale"
    )


def completion(parser: argparse.ArgumentParser) -> None:
    """Add the arguments of ``rlhfc completion``."""
    parser.add_argument("shell", metavar="SHELL", choices=("bash", "zsh", "fish"), help="bash, zsh or fish")


def explain(parser: argparse.ArgumentParser) -> None:
    """Add the arguments of ``rlhfc explain``."""
    add_pipeline_options(parser)
    parser.add_argument("stage", metavar="STAGE", help="the stage to explain")
    form = parser.add_mutually_exclusive_group()
    form.add_argument("--key", action="store_true", help="list what the key is made of, one component a line")
    form.add_argument("--json", action="store_true", help="print everything as JSON")


def status(parser: argparse.ArgumentParser) -> None:
    """Add the arguments of ``rlhfc status``."""
    add_pipeline_options(parser)
    parser.add_argument("--json", action="store_true", help="print the same as JSON")


def tag(parser: argparse.ArgumentParser) -> None:
    """Add the arguments of ``rlhfc tag``."""
    parser.add_argument("name", metavar="NAME", nargs="?", help="the tag; without it all are listed")
    add_pipeline_options(parser, optional=True)
    parser.add_argument("stage", metavar="STAGE", nargs="?", help="the stage whose result is named")
    parser.add_argument("--key", metavar="KEY", help="name the result whose key begins so")
    change = parser.add_mutually_exclusive_group()
    change.add_argument("--move", action="store_true", help="let a tag that is taken name this result")
    change.add_argument("--remove", action="store_true", help="take the tag away")
    parser.add_argument("--json", action="store_true", help="list the tags as JSON")


def gc(parser: argparse.ArgumentParser) -> None:
    """Add the arguments of ``rlhfc gc``."""
    add_store_option(parser)
    parser.add_argument("--plan", action="store_true", help="remove nothing; show what would go")
    told = "keep what this spec's stages have, or would make, now"
    add_repeatable(parser, "--keep", "SPEC", told, read=Path)
    parser.add_argument(
        "--keep-runs",
        metavar="COUNT",
        type=partial(whole, "--keep-runs"),
        default=3,
        help="newest results to keep of each stage of each pipeline (default: %(default)s)",
    )
    _add_age(parser, "--grace", "HOURS", 24.0, "keep all that is younger")
    told = "remove logs of earlier attempts, and quarantined files, that are older"
    _add_age(parser, "--old", "DAYS", 30.0, told)
    parser.add_argument(
        "--free", metavar="SIZE", help="remove no more than frees so much, the cheapest to make again first"
    )
    parser.add_argument("--quota", metavar="SIZE", help="set how much the store may hold, or `none`; no more")
    add_mirror_option(parser)
    parser.add_argument("--json", action="store_true", help="print the same as JSON")


def _add_age(parser: argparse.ArgumentParser, option: str, unit: str, default: float, told: str) -> None:
    parser.add_argument(
        option,
        metavar=unit,
        type=partial(amount, option),
        default=default,
        help=f"{told} (default: %(default)g)",
    )


def history(parser: argparse.ArgumentParser) -> None:
    """Add the arguments of ``rlhfc history``."""
    parser.add_argument("spec", metavar="SPEC", type=Path, nargs="?", help="show this pipeline only")
    add_store_option(parser)
    parser.add_argument(
        "-n", metavar="COUNT", dest="count", type=count, default=10, help="how many (default: %(default)s)"
    )
    parser.add_argument("--json", action="store_true", help="print the same as JSON")


def diff(parser: argparse.ArgumentParser) -> None:
    """Add the arguments of ``rlhfc diff``."""
    parser.add_argument("before", metavar="A", help=SIDE)
    parser.add_argument("after", metavar="B", help=SIDE)
    add_store_option(parser)
    parser.add_argument("--json", action="store_true", help="print the differences as JSON")
    parser.add_argument(
        "--detailed-exitcode", action="store_true", help="exit with 2 when there is a difference"
    )


def config(parser: argparse.ArgumentParser) -> None:
    """Add the arguments of ``rlhfc config``."""
    add_spec_options(parser)
    parser.add_argument("stage", metavar="STAGE", nargs="?", help="show this stage only")
    parser.add_argument(
        "--explicit", action="store_true", help="leave out values that are defaults of fields"
    )
    parser.add_argument("--json", action="store_true", help="print values, origins and impacts as JSON")


def graph(parser: argparse.ArgumentParser) -> None:
    """Add the arguments of ``rlhfc graph``."""
    add_pipeline_options(parser)
    parser.add_argument(
        "--format",
        choices=("mermaid", "dot", "svg"),
        default="mermaid",
        help="form of the drawing (default: %(default)s)",
    )
    parser.add_argument("-o", "--output", metavar="FILE", type=Path, help="where to (default: stdout)")
    parser.add_argument(
        "--no-state",
        action="store_true",
        help="draw the spec alone: no store is read, no input is looked for",
    )
