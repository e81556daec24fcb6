"""Whether a command that says it has finished really has: its outputs manifest, and its outputs.

The launcher's word is not enough: ``deepspeed`` may exit with 0 after it was killed.
"""

from __future__ import annotations

import json
import os
import struct
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from rlhfc.store.files import walk_files
from rlhfc.store.records import stays_inside

MANIFEST_FORMAT = 1
HEADER_LIMIT = 100 * 1024 * 1024  # what the safetensors format allows


class UnverifiedError(Exception):
    """Outputs that do not count; the text says why."""


@dataclass(frozen=True)
class Manifest:
    """What a stage says it has made.

    Attributes:
        ports: port to the files in it, path to size in bytes.
        summary: its main figures.
    """

    ports: Mapping[str, Mapping[str, int]]
    summary: Mapping[str, float | int | str]


def verify(path: Path, key: str, outputs: Mapping[str, Path]) -> Manifest:
    """Read the manifest of an attempt and hold it against what lies in the output folders.

    Args:
        path: the manifest.
        key: action key that it must be for.
        outputs: port to its folder.

    Raises:
        UnverifiedError: something is missing, superfluous, torn or unreadable.
    """
    manifest = _read(path, key)
    if set(manifest.ports) != set(outputs):
        raise UnverifiedError(f"it made the ports {sorted(manifest.ports)}, not {sorted(outputs)}")
    for port, folder in outputs.items():
        _verify_port(port, folder, manifest.ports[port])
    return manifest


def _read(path: Path, key: str) -> Manifest:
    try:
        text = json.loads(path.read_bytes())
    except FileNotFoundError:
        raise UnverifiedError("it wrote no outputs manifest") from None
    except ValueError as error:
        raise UnverifiedError("its outputs manifest is torn") from error
    try:
        if text["format"] != MANIFEST_FORMAT or text["action_key"] != key:
            raise UnverifiedError("its outputs manifest is of another action")
        if text["step"] != text["total"]:
            raise UnverifiedError(f"it stopped at step {text['step']} of {text['total']}")
        ports = {port: _listed(rows) for port, rows in text["ports"].items()}
        summary = {str(name): value for name, value in text["summary"].items()}
    except (KeyError, TypeError, AttributeError) as error:
        raise UnverifiedError(f"its outputs manifest is malformed: {error}") from error
    for name, value in summary.items():
        if not isinstance(value, int | float | str):
            raise UnverifiedError(f"`{name}` in its summary is neither a number nor text")
    return Manifest(ports, summary)


def _listed(rows: Any) -> dict[str, int]:
    files = {row["path"]: row["size"] for row in rows}
    for name, size in files.items():
        if not isinstance(name, str) or not isinstance(size, int) or not stays_inside(name):
            raise UnverifiedError(f"its outputs manifest lists {name!r}, no path inside the port")
    return files


def _verify_port(port: str, folder: Path, listed: Mapping[str, int]) -> None:
    found = _regular_files(port, folder)
    if missing := sorted(listed.keys() - found.keys()):
        raise UnverifiedError(f"`{port}/{missing[0]}` is not there")
    if unlisted := sorted(found.keys() - listed.keys()):
        raise UnverifiedError(f"`{port}/{unlisted[0]}` is not in its outputs manifest")
    for name, size in listed.items():
        if found[name] != size:
            raise UnverifiedError(f"`{port}/{name}` has {found[name]} bytes, not {size}")
        _verify_content(f"{port}/{name}", folder / name, size)


def _regular_files(port: str, folder: Path) -> dict[str, int]:
    found = {}
    for entry in walk_files(folder):
        name = os.path.relpath(entry.path, folder)
        if not name.isprintable() and not _is_unicode(name):
            raise UnverifiedError(f"`{port}/` holds a name that is not UTF-8: {os.fsencode(name)!r}")
        if not entry.is_file(follow_symlinks=False):
            what = "a symbolic link" if entry.is_symlink() else "no regular file"
            raise UnverifiedError(f"`{port}/{name}` is {what}")
        found[name] = entry.stat(follow_symlinks=False).st_size
    return found


def _is_unicode(name: str) -> bool:
    try:
        name.encode()
    except UnicodeEncodeError:
        return False
    return True


def _verify_content(name: str, path: Path, size: int) -> None:
    if path.suffix == ".safetensors":
        _verify_safetensors(name, path, size)
    elif path.suffix == ".json":
        try:
            json.loads(path.read_bytes())
        except ValueError as error:
            raise UnverifiedError(f"`{name}` is not JSON: {error}") from error


def _verify_safetensors(name: str, path: Path, size: int) -> None:
    """Check the header: its length, JSON, and tensors that fill the rest of the file without a gap."""
    with path.open("rb") as stream:
        start = stream.read(8)
        length = struct.unpack("<Q", start)[0] if len(start) == 8 else HEADER_LIMIT + 1
        if length > min(HEADER_LIMIT, size - 8):
            raise UnverifiedError(f"`{name}` is cut off: its header is not whole")
        try:
            header = json.loads(stream.read(length))
            tensors = [spot for tensor, spot in header.items() if tensor != "__metadata__"]
            spans = sorted((int(begin), int(end)) for begin, end in (t["data_offsets"] for t in tensors))
        except (ValueError, KeyError, TypeError, AttributeError) as error:
            raise UnverifiedError(f"`{name}` has a header that cannot be read") from error
    reached = 0
    for begin, end in spans:
        if begin != reached or end < begin:
            raise UnverifiedError(f"`{name}` has tensors that overlap or leave a gap")
        reached = end
    if size != 8 + length + reached:
        raise UnverifiedError(f"`{name}` has {size} bytes where its header says {8 + length + reached}")
