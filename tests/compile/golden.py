"""Records that tests compare with: keys that must never move by accident, and the impact of every leaf.

``python tests/compile/golden.py`` writes ``golden_keys/*.json`` and ``impacts.txt`` again. A golden key
that moves means that users run again what they have: the changelog must say so.
"""

from __future__ import annotations

import json
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from bench import ALL_KINDS, make_bench

from rlhfc.compile.impacts import declared_leaves
from rlhfc.compile.keys import ACTION_TAG
from rlhfc.compile.kinds import load_kinds
from rlhfc.store.digest import bytes_digest, canonical_json, tagged_digest

HERE = Path(__file__).parent
FOLDER = HERE / "golden_keys"
IMPACTS = HERE / "impacts.txt"
PIPELINE = "all_kinds"


def keys_of(document: Any) -> dict[str, str]:
    """Digest of a document's canonical bytes, and its key."""
    return {
        "canonical": bytes_digest(canonical_json(document)),
        "key": tagged_digest(ACTION_TAG, document),
    }


def documents() -> dict[str, Any]:
    """Key documents of the spec with all kinds, on a machine made of values."""
    with tempfile.TemporaryDirectory() as folder:
        known = make_bench(Path(folder)).documents(ALL_KINDS)
    return {f"{PIPELINE}-{stage}": found.document for stage, found in known.items()}


def impact_lines() -> Iterator[str]:
    """Every leaf that a built-in kind declares: address and impact."""
    for name, loaded in sorted(load_kinds([]).items()):
        for address, impact in declared_leaves(loaded.kind.params):
            yield f"{name}.{address} {impact}"


def main() -> None:
    """Write the records; documents that are no stage's are kept, with their keys made anew."""
    kept = {path.stem: json.loads(path.read_text(encoding="utf-8")) for path in FOLDER.glob("*.json")}
    vectors = {name: vector["document"] for name, vector in kept.items()} | documents()
    for name, document in vectors.items():
        text = json.dumps({**keys_of(document), "document": document}, indent=1, ensure_ascii=False)
        (FOLDER / f"{name}.json").write_text(text + "\n", encoding="utf-8")
    IMPACTS.write_text("\n".join([*impact_lines(), ""]), encoding="utf-8")


if __name__ == "__main__":
    main()
