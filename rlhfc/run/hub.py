"""Ask the Hugging Face hub, in a process of its own, so that its library is imported in no other.

    python -m rlhfc.run.hub snapshot TYPE ID COMMIT [FILE]   prints the folder of a snapshot
    python -m rlhfc.run.hub commit TYPE ID REVISION          prints the commit of a branch or tag

On failure one line on stderr, exit status 1.
"""

from __future__ import annotations

import sys
from pathlib import Path


def main(what: str, repository: str, name: str, revision: str, file: str | None = None) -> int:
    """Ask and print."""
    try:
        from huggingface_hub import snapshot_download
    except ImportError:
        print("`huggingface_hub` is not installed; `pip install rlhfc[train]` has it", file=sys.stderr)
        return 1
    # To fetch no file of a branch is to learn its commit; the library notes it in its cache.
    wanted = [] if what == "commit" else [file] if file else None
    try:
        folder = snapshot_download(name, repo_type=repository, revision=revision, allow_patterns=wanted)
    except Exception as error:  # its exceptions come from four libraries; each is one line here
        text = str(error).strip().splitlines() or [type(error).__name__]
        print(f"{type(error).__name__}: {text[0]}", file=sys.stderr)
        return 1
    print(Path(folder).name if what == "commit" else folder)
    return 0


if __name__ == "__main__":
    sys.exit(main(*sys.argv[1:]))
