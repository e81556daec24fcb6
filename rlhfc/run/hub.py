"""Fetch a snapshot from the Hugging Face hub: ``python -m rlhfc.run.hub TYPE ID COMMIT [FILE]``.

A process of its own, so that its library is imported in no other, and so that it can be ended.
Prints the folder of the snapshot; on failure one line on stderr, exit status 1.
"""

from __future__ import annotations

import sys


def main(repository: str, name: str, commit: str, file: str | None = None) -> int:
    """Download and print the folder."""
    try:
        from huggingface_hub import snapshot_download
    except ImportError:
        print("`huggingface_hub` is not installed; `pip install rlhfc[train]` has it", file=sys.stderr)
        return 1
    try:
        folder = snapshot_download(
            name, repo_type=repository, revision=commit, allow_patterns=[file] if file else None
        )
    except Exception as error:  # its exceptions come from four libraries; each is one line here
        text = str(error).strip().splitlines() or [type(error).__name__]
        print(f"{type(error).__name__}: {text[0]}", file=sys.stderr)
        return 1
    print(folder)
    return 0


if __name__ == "__main__":
    sys.exit(main(*sys.argv[1:]))
