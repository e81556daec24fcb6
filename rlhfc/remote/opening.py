"""From a URL to a place."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

from rlhfc.errors import Diagnostic, UserError
from rlhfc.remote.objects import ObjectPlace, words
from rlhfc.remote.place import FolderPlace, Place
from rlhfc.remote.steady import SteadyPlace

CONNECT_SECONDS = 5
SILENCE_SECONDS = 30  # without a byte, from a server that has answered
PASSWORD = re.compile(r"//[^/@]*@")
NEEDS = {"s3": "pip install 'rlhfc[s3]'"}


def open_place(url: str) -> Place:
    """The place that a URL or a path of a folder names; nothing is asked of it yet.

    Raises:
        UserError: the URL names nothing that can be used here.
    """
    protocol, separator, rest = url.partition("://")
    if not separator:
        return FolderPlace(Path(url).expanduser().absolute())
    if protocol == "file":
        return FolderPlace(Path(rest).absolute())
    try:
        from fsspec.core import url_to_fs  # not needed where all results are here

        filesystem, root = url_to_fs(url, **_options(protocol))
    except ImportError as error:
        hint = f"`{NEEDS[protocol]}`" if protocol in NEEDS else "install what it names"
        raise UserError(Diagnostic(f"`{shown(url)}`: {words(error)}", hint=hint)) from error
    except Exception as error:  # each file system refuses its URLs in its own way
        raise UserError(
            Diagnostic(f"`{shown(url)}`: {words(error)}", hint="name a folder or `s3://…`")
        ) from error
    if protocol in ("s3", "s3a"):
        filesystem.retries = 1  # we try again ourselves, and know when to give up
    return SteadyPlace(ObjectPlace(filesystem, root, shown(url), protocol))


def shown(url: str) -> str:
    """A URL without the credentials that may stand in it."""
    return PASSWORD.sub("//", url)


def _options(protocol: str) -> dict[str, Any]:
    """Nothing that was listed before is believed, and no request hangs for ever."""
    fresh = {"skip_instance_cache": True, "use_listings_cache": False}
    if protocol not in ("s3", "s3a"):
        return fresh
    limits = {
        "connect_timeout": CONNECT_SECONDS,
        "read_timeout": SILENCE_SECONDS,
        "retries": {"max_attempts": 0},
    }
    return {**fresh, "config_kwargs": limits}
