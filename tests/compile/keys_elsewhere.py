"""Prints the keys of a spec: ``python keys_elsewhere.py REPOSITORY SPEC``, with any Python from 3.11.

That Python needs rlhfc's own dependencies and nothing else. rlhfc is not installed there, so its
stages are put where an installation has them.
"""

from __future__ import annotations

import importlib.util
import json
import sys
from pathlib import Path


def import_from(repository: Path) -> None:
    """Have ``rlhfc`` and ``rlhfc.stages`` imported from a checkout."""
    sys.path.insert(0, str(repository))
    folder = repository / "stages"
    spec = importlib.util.spec_from_file_location(
        "rlhfc.stages", folder / "__init__.py", submodule_search_locations=[str(folder)]
    )
    assert spec is not None
    sys.modules["rlhfc.stages"] = importlib.util.module_from_spec(spec)


def keys(spec: Path) -> dict[str, str]:
    """Key of every stage, its code digested as it is, every output the same."""
    from rlhfc.compile.digests import CachedDigester
    from rlhfc.compile.keys import key_document
    from rlhfc.compile.mirrors import Mirrors
    from rlhfc.compile.pipeline import compile_pipeline
    from rlhfc.compile.world import World
    from rlhfc.spec.load import load_pipeline

    world = World(Mirrors(), CachedDigester(), gpus=0, libraries=lambda _: "1.2.3", hub_cache=spec.parent)
    actions = compile_pipeline(load_pipeline(spec), world).actions
    outputs = {(name, port): f"b3:{'0' * 64}" for name in actions for port in actions[name].kind.outputs}
    known = {name: key_document(action, outputs, world.libraries) for name, action in actions.items()}
    return {name: found.key for name, found in known.items()}  # type: ignore[union-attr]


if __name__ == "__main__":
    import_from(Path(sys.argv[1]))
    print(json.dumps(keys(Path(sys.argv[2])), sort_keys=True))
