"""``rlhfc config``: the spec with everything filled in, and where each value was written."""

from __future__ import annotations

import argparse
import json

from rlhfc.cli.stages import check_names
from rlhfc.explain.resolved import resolved_document, resolved_lines
from rlhfc.spec.load import load_pipeline


def run(arguments: argparse.Namespace) -> int:
    """Print the resolved spec.

    Raises:
        UserError: the spec or an option is wrong.
    """
    spec = load_pipeline(arguments.spec, arguments.overrides, arguments.overlays)
    stages = spec.stages
    if arguments.stage is not None:
        stages = {name: stages[name] for name in check_names("config", [arguments.stage], stages)}
    if arguments.json:
        document = resolved_document(spec, stages, explicit=arguments.explicit)
        print(json.dumps(document, indent=2, ensure_ascii=False))
    else:
        print("\n".join(resolved_lines(spec, stages, explicit=arguments.explicit)))
    return 0
