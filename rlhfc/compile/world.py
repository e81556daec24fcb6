"""What compilation may ask of the machine, as values and small functions that tests can replace."""

from __future__ import annotations

import importlib.metadata
import os
import platform
import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from functools import lru_cache
from pathlib import Path

from rlhfc.compile.digests import Digester
from rlhfc.compile.mirrors import Mirrors, read_mirrors
from rlhfc.environment import count_gpus, read_environment
from rlhfc.trust import Trust, read_trust

PYTHON = "python"
Libraries = Callable[[str], str | None]
"""Distribution name, or :data:`PYTHON`, to its version; None when it is not installed."""


@dataclass(frozen=True)
class World:
    """The machine as compilation sees it.

    Attributes:
        mirrors: local copies of hub models and data sets.
        digests: content digests of local files.
        gpus: GPUs that may be used.
        libraries: version of an installed distribution.
        hub_cache: Hugging Face's cache of downloads.
        trust: whose code may run.
    """

    mirrors: Mirrors
    digests: Digester
    gpus: int
    libraries: Libraries
    hub_cache: Path
    trust: Trust = field(default_factory=read_trust)


def this_machine(
    mirror_options: Sequence[str],
    digests: Digester,
    variables: Mapping[str, str] = os.environ,
    trust: Trust | None = None,
) -> World:
    """The machine that this process runs on.

    Args:
        mirror_options: values of ``--mirror``.
        digests: hashes local files, usually a ``CachedDigester``.
        variables: the environment.
        trust: whose code may run; default what the environment and its user's file say.

    Raises:
        UserError: a mirror is malformed.
    """
    environment = read_environment(variables)
    return World(
        mirrors=read_mirrors(mirror_options, environment, Path.cwd()),
        digests=digests,
        gpus=count_gpus(environment),
        libraries=installed_version,
        hub_cache=environment.hub_cache,
        trust=trust or read_trust(environment),
    )


@lru_cache
def installed_version(distribution: str) -> str | None:
    """Version of an installed distribution or of Python itself, or None."""
    if distribution == PYTHON:
        return platform.python_version()
    try:
        metadata = importlib.metadata.distribution(distribution).read_text("METADATA") or ""
    except importlib.metadata.PackageNotFoundError:
        return None
    # Its whole head as a mail message, as `importlib.metadata.version` reads it, takes milliseconds.
    found = re.search(r"^Version: *(\S+)", metadata, re.MULTILINE)
    return found[1] if found else importlib.metadata.version(distribution)


def major_minor(version: str) -> str:
    """The part of a version that enters a key: ``2.13.0+cpu`` is ``2.13``."""
    found = re.match(r"\d+(\.\d+)?", version)
    return found[0] if found else version
