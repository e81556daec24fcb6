"""Tags: names that people give to results, which removal then keeps."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator
from dataclasses import asdict, dataclass
from pathlib import Path

from rlhfc.errors import Diagnostic, UserError
from rlhfc.store.files import sync_folder, write_atomic
from rlhfc.store.guarded import guarded, unguarded
from rlhfc.store.layout import Layout

FORMAT = 1
NAME = re.compile(r"[A-Za-z0-9][\w.-]{0,99}", re.ASCII)


@dataclass(frozen=True)
class Tag:
    """A named result.

    Attributes:
        time: when it was named; UTC, ISO 8601.
    """

    name: str
    key: str
    pipeline: str
    stage: str
    who: str
    time: str


def check_name(name: str) -> None:
    """Refuse what cannot be the name of a file everywhere.

    Raises:
        UserError: it cannot.
    """
    if not NAME.fullmatch(name):
        hint = "up to 100 letters, digits, `_`, `-` and `.`, the first a letter or digit"
        raise UserError(Diagnostic(f"`{name}` cannot be a tag", hint=hint))


def read_tags(layout: Layout) -> Iterator[Tag]:
    """All tags, by name. What cannot be read is passed over: see :func:`damaged_tags`."""
    for path in _files(layout):
        found = read_tag(path)
        if found is not None:
            yield found


def damaged_tags(layout: Layout) -> list[Path]:
    """Files of tags that do not say what they name."""
    return [path for path in _files(layout) if read_tag(path) is None]


def write_tag(layout: Layout, tag: Tag) -> None:
    """Keep a tag, durably; one of the same name is replaced."""
    text = json.dumps(guarded({"format": FORMAT, **asdict(tag)}), indent=1, ensure_ascii=False) + "\n"
    write_atomic(layout.tags / f"{tag.name}.json", text.encode())


def remove_tag(layout: Layout, name: str) -> bool:
    """Take a tag away; False when there was none."""
    try:
        (layout.tags / f"{name}.json").unlink()
    except FileNotFoundError:
        return False
    sync_folder(layout.tags)
    return True


def _files(layout: Layout) -> list[Path]:
    return sorted(path for path in layout.tags.glob("*.json") if not path.name.startswith("."))


def read_tag(path: Path) -> Tag | None:
    """The tag in a file; None when it is damaged."""
    try:
        text = unguarded(path.read_bytes())
        text.pop("format")
        return Tag(**text)
    except (OSError, ValueError, KeyError, TypeError, AttributeError):
        return None
