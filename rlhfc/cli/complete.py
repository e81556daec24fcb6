"""``rlhfc complete WORDS…``: what may stand where the last word is; asked by the shells' scripts.

It answers at every press of a key, so nothing but the standard library may be imported. Options are
those of the real parsers; names of stages come from a quick look at the spec.
"""

from __future__ import annotations

import argparse
import re
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from rlhfc.cli.commands import COMMANDS

FILES = ":files"
"""Answer that leaves the rest to the shell's completion of file names."""

PATHS = frozenset({"SPEC", "FILE", "FOLDER", "DIR", "PATH|HUB_ID", "A", "B"})  # A and B: sides of `diff`
KEY = re.compile(r"""( *)(?:"([^"]+)"|'([^']+)'|([^\s#'"\[\]{}:-][^\s#:]*))\s*:(?:\s|$)""")
INCLUDE = re.compile(r"^include *:(.*(?:\n *- .*)*)", re.MULTILINE)
DEEPEST = 8  # included files


def candidates(words: Sequence[str]) -> list[str]:
    """What may stand at the place of the last word, or :data:`FILES`.

    Args:
        words: those behind ``rlhfc``, up to the cursor; the last one may be empty.
    """
    *before, current = words or [""]
    place = next((index for index, word in enumerate(before) if not word.startswith("-")), None)
    if place is None:
        return _beginning(current, ["--help", "--version"] if current.startswith("-") else COMMANDS)
    if before[place] not in COMMANDS:
        return []
    parser = argparse.ArgumentParser(allow_abbrev=False)
    COMMANDS[before[place]].configure(parser)
    return _Line(parser).read(before[place + 1 :]).candidates(current)


def stage_names(spec: Path, depth: int = 0) -> list[str]:
    """Stages that a spec and the files that it includes write down; none where it cannot be read."""
    try:
        text = spec.read_text(encoding="utf-8")
    except (OSError, ValueError):
        return []
    included = INCLUDE.search(text) if depth < DEEPEST else None
    files = re.findall(r"[^\s,\[\]'\"]+\.ya?ml", included.group(1)) if included else []
    below = [name for file in files for name in stage_names(spec.parent / file, depth + 1)]
    return list(dict.fromkeys([*below, *_keys_of_stages(text.splitlines())]))


@dataclass
class _Line:
    """What has been given of a command's arguments.

    Attributes:
        given: positional words.
        open: the option that takes the next word.
        many: the option that takes all words up to the next option.
        used: options that stand there already and may not be repeated.
    """

    parser: argparse.ArgumentParser
    given: list[str] = field(default_factory=list)
    open: argparse.Action | None = None
    many: argparse.Action | None = None
    used: set[str] = field(default_factory=set)

    def read(self, words: Iterable[str]) -> _Line:
        """Take words in."""
        for word in words:
            option = self._options.get(word)
            if self.open is not None:
                self.open = None
            elif option is not None:
                repeated = isinstance(option, argparse._AppendAction)
                self.used |= set() if repeated else set(option.option_strings)
                self.many = option if option.nargs == "*" else None
                self.open = option if option.nargs is None else None
            elif not word.startswith("-") and self.many is None:
                self.given.append(word)
        return self

    def candidates(self, current: str) -> list[str]:
        """What may come next."""
        if self.open is not None:
            return self._values(self.open, current)
        name, equals, value = current.partition("=")
        if equals and name in self._options:
            found = self._values(self._options[name], value)
            return found if found == [FILES] else [f"{name}={item}" for item in found]
        if current.startswith("-"):
            return _beginning(current, sorted(set(self._options) - self.used))
        if self.many is not None:
            return self._values(self.many, current)
        places = [action for action in self.parser._actions if not action.option_strings]
        return self._values(places[len(self.given)], current) if len(self.given) < len(places) else []

    @property
    def _options(self) -> dict[str, argparse.Action]:
        return self.parser._option_string_actions

    def _values(self, action: argparse.Action, current: str) -> list[str]:
        what = str(action.metavar)
        if action.choices is not None:
            return _beginning(current, map(str, action.choices))
        if what in PATHS or (what == "ID=TARGET" and "=" in current):
            return [FILES]
        spec = self._spec
        if what.startswith("STAGE") and spec is not None:
            end = "." if what.startswith("STAGE.") else ""
            return _beginning(current, [f"{name}{end}" for name in stage_names(spec)])
        return []

    @property
    def _spec(self) -> Path | None:
        """The word that stands where the spec belongs, else the first."""
        places = [action.metavar for action in self.parser._actions if not action.option_strings]
        at = places.index("SPEC") if "SPEC" in places else 0
        return Path(self.given[at]).expanduser() if at < len(self.given) else None


def _beginning(current: str, words: Iterable[str]) -> list[str]:
    return [word for word in words if word.startswith(current)]


def _keys_of_stages(lines: Sequence[str]) -> Iterator[str]:
    """Keys one level below ``stages:``, in block style."""
    depth = None
    inside = False
    for line in lines:
        if not line.strip() or line.lstrip().startswith("#"):
            continue
        if not line.startswith(" "):
            inside = re.match(r"stages *:\s*(#.*)?$", line) is not None
        elif inside and (key := KEY.match(line)):
            depth = len(key[1]) if depth is None else depth
            if len(key[1]) == depth:
                yield key[2] or key[3] or key[4]
