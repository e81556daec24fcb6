"""Which versions of which libraries decide a result: what ``libraries:`` of a spec says."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Literal

from rlhfc.compile.world import PYTHON, major_minor

Policy = Literal["invalidate", "warn", "ignore"]
"""In the key by major.minor; recorded beside it, so that a plan tells the difference; neither."""


@dataclass(frozen=True)
class LibraryPolicy:
    """The policy of a pipeline.

    Attributes:
        strict: full versions of all libraries, and Python's, are in the key.
        named: policy by distribution; those that are not named are ``invalidate``.
        put_back: versions as they stood in an earlier key (see ``rlhfc.compile.ignored``).
    """

    strict: bool = False
    named: Mapping[str, Policy] = field(default_factory=dict)
    put_back: Mapping[str, str] = field(default_factory=dict)

    def keyed(self, libraries: tuple[str, ...]) -> tuple[str, ...]:
        """Of a kind's libraries those that enter a key."""
        if self.strict:
            return (*libraries, PYTHON)
        return tuple(name for name in libraries if self._of(name) == "invalidate")

    def recorded(self, libraries: tuple[str, ...]) -> tuple[str, ...]:
        """Of a kind's libraries those whose full versions are kept beside a key."""
        return tuple(name for name in libraries if self.strict or self._of(name) != "ignore")

    def shown(self, version: str) -> str:
        """The part of a version that enters a key."""
        return version if self.strict else major_minor(version)

    def _of(self, name: str) -> Policy:
        return self.named.get(name, "invalidate")
