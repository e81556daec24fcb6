"""What the local Hugging Face cache knows, read without importing its library."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Literal

COMMIT = re.compile(r"^[0-9a-f]{40}$")
RepositoryType = Literal["model", "dataset"]


def cached_commit(cache: Path, kind: RepositoryType, hub_id: str, revision: str | None) -> str | None:
    """Commit that a branch or tag had when it was last downloaded, or None.

    Args:
        cache: the folder that holds ``models--owner--name``.
        kind: models and data sets have names of their own.
        hub_id: ``owner/name``.
        revision: branch or tag; None is ``main``.
    """
    repository = cache / f"{kind}s--{hub_id.replace('/', '--')}"
    reference = repository / "refs" / (revision or "main")
    try:
        commit = reference.read_text(encoding="ascii").strip()
    except (OSError, ValueError):
        return None
    return commit if COMMIT.fullmatch(commit) else None
