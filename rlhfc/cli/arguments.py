"""What each command takes, in one place and without what the commands need to do their work.

So ``--help`` of any command, a mistake on the command line and shell completion are answered with
the standard library alone. A command's own module is imported when its arguments have been read.
"""

from __future__ import annotations

import argparse
from pathlib import Path

from rlhfc.cli.options import (
    add_pipeline_options,
    add_selection_options,
    add_spec_options,
    add_store_option,
)
from rlhfc.errors import Diagnostic, UserError

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
    shown = parser.add_mutually_exclusive_group()
    shown.add_argument("--quiet", action="store_true", help="show no progress")
    shown.add_argument("-v", "--verbose", action="store_true", help="show the stages' logs as they grow")
    parser.add_argument("--json", action="store_true", help="print the outcome as JSON")


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


def report(parser: argparse.ArgumentParser) -> None:
    """Add the arguments of ``rlhfc report``."""
    add_pipeline_options(parser)
    parser.add_argument("--output", metavar="FILE", type=Path, help="where to (default: in the store)")


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


def history(parser: argparse.ArgumentParser) -> None:
    """Add the arguments of ``rlhfc history``."""
    parser.add_argument("spec", metavar="SPEC", type=Path, nargs="?", help="show runs of this pipeline only")
    add_store_option(parser)
    parser.add_argument(
        "-n", metavar="COUNT", dest="count", type=_count, default=10, help="how many (default: %(default)s)"
    )
    parser.add_argument("--json", action="store_true", help="print the runs as JSON")


def _count(text: str) -> int:
    if not text.isdecimal() or int(text) == 0:
        raise UserError(Diagnostic(f"`-n {text}` is no number of runs", hint="give 1 or more"))
    return int(text)


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
