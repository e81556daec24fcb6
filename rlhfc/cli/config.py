"""``rlhfc config``: the spec with everything filled in, and where each value was written."""

from __future__ import annotations

import argparse
import json

from rlhfc.cli.options import add_spec_options
from rlhfc.cli.stages import check_names
from rlhfc.explain.resolved import resolved_document, resolved_lines
from rlhfc.spec.load import load_pipeline


def configure(parser: argparse.ArgumentParser) -> None:
    """Add the command's arguments."""
    add_spec_options(parser)
    parser.add_argument("stage", metavar="STAGE", nargs="?", help="show this stage only")
    parser.add_argument(
        "--explicit", action="store_true", help="leave out values that are defaults of fields"
    )
    parser.add_argument("--json", action="store_true", help="print values, origins and impacts as JSON")


def run(arguments: argparse.Namespace) -> int:
    """Print the resolved spec.

    Raises:
        UserError: the spec or an option is wrong.
    """
    spec = load_pipeline(arguments.spec, arguments.overrides)
    stages = spec.stages
    if arguments.stage is not None:
        check_names("config", [arguments.stage], stages)
        stages = {arguments.stage: stages[arguments.stage]}
    if arguments.json:
        document = resolved_document(spec, stages, explicit=arguments.explicit)
        print(json.dumps(document, indent=2, ensure_ascii=False))
    else:
        print("\n".join(resolved_lines(spec, stages, explicit=arguments.explicit)))
    return 0
