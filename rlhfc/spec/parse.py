"""YAML text to nodes with their places.

Decided here, besides the scalars (see :mod:`rlhfc.spec.scalars`):

* a file is one document in UTF-8; a byte-order mark is skipped, any other encoding refused;
* keys are text as written (``on:`` is ``on``, ``1:`` is ``1``) and unique within their mapping;
* ``<<`` merges mappings: own keys win, then the earlier of several; a quoted ``"<<"`` is a key;
* aliases share their anchor's value; what they expand to is limited, and none contains itself;
* of the tags only ``!!str`` is known; tabs do not indent; nesting is limited.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any, NoReturn

import yaml

from rlhfc.errors import Diagnostic, Mark, UserError, nearest
from rlhfc.spec.nodes import Node
from rlhfc.spec.scalars import plain_scalar

ALIAS_LIMIT = 100_000
"""Nodes that the aliases of one file may stand for, beyond those that are written out."""
DEPTH_LIMIT = 64
"""Mappings and lists inside each other."""

_STR_TAG = "tag:yaml.org,2002:str"
# Compiled when a file has one: that takes as long as reading a spec.
_FORBIDDEN = "[^\t\x20-\x7e\x85\xa0-\ud7ff\ue000-\ufffd\U00010000-\U0010ffff]"
_Loader: Any = getattr(yaml, "CSafeLoader", yaml.SafeLoader)


Read = Callable[[Path], bytes]
"""What a file holds; :class:`OSError` when it cannot be read. Not always from disk: also from a commit."""
Identity = Callable[[Path], Path]
"""The one name of a file that has several."""


def parse_file(path: Path, read: Read = Path.read_bytes) -> Node:
    """The document in a file.

    Args:
        path: how the file is called.
        read: gives its bytes.

    Raises:
        UserError: it cannot be read, or :func:`parse_text` raises.
    """
    try:
        raw = read(path)
    except OSError as error:
        reason = error.strerror or type(error).__name__
        hint = _spec_like(path) if isinstance(error, FileNotFoundError) else None
        raise UserError(Diagnostic(f"cannot read `{path}`: {reason}", hint=hint)) from error
    return parse_text(decode(raw, path), path)


def _spec_like(path: Path) -> str | None:
    """Hint at the file that was probably meant."""
    try:
        beside = {file.stem: file for file in path.parent.iterdir() if file.suffix in (".yaml", ".yml")}
    except OSError:
        return None
    close = nearest(path.stem, beside)
    return f"did you mean `{beside[close]}`?" if close is not None and beside[close] != path else None


def decode(raw: bytes, path: Path) -> str:
    """UTF-8 bytes as text, without a byte-order mark.

    Raises:
        UserError: they are not UTF-8; the place is that of the first bad byte.
    """
    try:
        return raw.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        before = raw[: error.start].decode("utf-8-sig", errors="replace")
        line = before.count("\n") + 1
        column = len(before) - (before.rfind("\n") + 1) + 1
        shown = raw.decode("utf-8", errors="replace").splitlines()[line - 1]
        message = f"byte 0x{raw[error.start]:02x} is not UTF-8"
        mark = Mark(path, line, column, text=shown)
        raise UserError(Diagnostic(message, mark, "save the file as UTF-8")) from error


def parse_text(text: str, path: Path, *, argument: bool = False) -> Node:
    """The one document in ``text``.

    Args:
        text: YAML.
        path: how the text is called in messages.
        argument: whether it is a command-line argument, whose marks have no line.

    Raises:
        UserError: it breaks YAML's rules or those in this module's docstring; duplicate keys are
            all reported at once.
    """
    composer = _Composer(text, path, argument)
    try:
        root = composer.document()
    except yaml.YAMLError as error:
        raise UserError(composer.syntax(error)) from error
    if composer.faults:
        raise UserError(composer.faults)
    return root


class _Composer:
    """Builds nodes from libyaml's events; the faults that do not stop it are collected."""

    def __init__(self, text: str, path: Path, argument: bool) -> None:
        self.path = path
        self.argument = argument
        self.text = text
        # What libyaml counts as a line.
        self.lines = re.split("\r\n|[\n\r\x85\u2028\u2029]", text)
        self.loader = _Loader(text)
        self.faults: list[Diagnostic] = []
        self.anchors: dict[str, Node | None] = {}
        self.expanded = 0

    def document(self) -> Node:
        """Compose the whole stream."""
        self.loader.get_event()
        if self.loader.check_event(yaml.StreamEndEvent):
            self.stop("the file is empty", Mark(self.path, 1, 1, text=self.line(1)))
        self.loader.get_event()
        root = self.node(0)
        self.loader.get_event()
        if not self.loader.check_event(yaml.StreamEndEvent):
            mark = self.mark(self.loader.get_event().start_mark, length=3)
            self.stop("a second document starts here", mark, "a spec is one document: remove `---`")
        return root

    def node(self, depth: int) -> Node:
        """Compose the next value."""
        event = self.loader.get_event()
        if isinstance(event, yaml.AliasEvent):
            return self.alias(event)
        tag, mark = event.tag, self.mark(event.start_mark)
        if tag is not None and not (tag == _STR_TAG and isinstance(event, yaml.ScalarEvent)):
            written = tag.replace("tag:yaml.org,2002:", "!!")
            self.stop(
                f"tag `{written}` is not supported", replace(mark, length=len(written)), "remove the tag"
            )
        if event.anchor is not None:
            self.anchors[event.anchor] = None
        if isinstance(event, yaml.ScalarEvent):
            composed = self.scalar(event)
        elif depth >= DEPTH_LIMIT:
            self.stop(f"more than {DEPTH_LIMIT} levels of nesting", mark)
        elif isinstance(event, yaml.SequenceStartEvent):
            composed = self.sequence(mark, depth)
        else:
            composed = self.mapping(mark, depth)
        if event.anchor is not None:
            self.anchors[event.anchor] = composed
        return composed

    def scalar(self, event: Any) -> Node:
        start, end = event.start_mark, event.end_mark
        length = end.column - start.column if end.line == start.line else 1
        plain = event.style in (None, "") and event.tag is None
        data = plain_scalar(event.value) if plain else event.value
        return Node(data, self.mark(start, max(1, length)), text=event.value)

    def sequence(self, mark: Mark, depth: int) -> Node:
        items: list[Node] = []
        while not self.loader.check_event(yaml.SequenceEndEvent):
            items.append(self.node(depth + 1))
        self.loader.get_event()
        return Node(items, mark, size=1 + sum(item.size for item in items))

    def mapping(self, mark: Mark, depth: int) -> Node:
        own: dict[str, Node] = {}
        merged: list[Node] = []
        while not self.loader.check_event(yaml.MappingEndEvent):
            merges = self.next_key_merges()
            key = self.node(depth + 1)
            if key.mapping is not None or key.items is not None:
                self.stop("a key must be text", key.mark)
            value = self.node(depth + 1)
            if merges:
                if merged:
                    self.faults.append(Diagnostic("`<<` is given twice", key.mark, "write `<<: [*a, *b]`"))
                merged.extend(self.merge_sources(value))
            elif key.text in own:
                first = own[key.text].key
                where = f", first in line {first.line}" if first and first.line else ""
                self.faults.append(Diagnostic(f"`{key.text}` is given twice{where}", key.mark))
            else:
                own[key.text] = replace(value, key=key.mark)
        self.loader.get_event()
        entries = dict(own)
        for source in merged:
            for name, node in (source.mapping or {}).items():
                entries.setdefault(name, node)
        return Node(entries, mark, size=1 + sum(node.size for node in entries.values()))

    def next_key_merges(self) -> bool:
        event = self.loader.peek_event()
        return isinstance(event, yaml.ScalarEvent) and event.value == "<<" and event.style in (None, "")

    def merge_sources(self, value: Node) -> Sequence[Node]:
        sources = value.items if value.items is not None else [value]
        for source in sources:
            if source.mapping is None:
                self.stop("`<<` merges mappings only", source.mark, "write `<<: *anchor` or `<<: [*a, *b]`")
        return sources

    def alias(self, event: Any) -> Node:
        mark = self.mark(event.start_mark, len(event.anchor) + 1)
        if event.anchor not in self.anchors:
            self.stop(f"alias `*{event.anchor}` has no anchor `&{event.anchor}` above it", mark)
        node = self.anchors[event.anchor]
        if node is None:
            self.stop(f"alias `*{event.anchor}` stands inside its own anchor", mark)
        self.expanded += node.size
        if self.expanded > ALIAS_LIMIT:
            self.stop(f"the aliases up to here expand to more than {ALIAS_LIMIT:,} values", mark)
        return node

    def mark(self, mark: Any, length: int = 1) -> Mark:
        line = mark.line + 1
        return Mark(self.path, 0 if self.argument else line, mark.column + 1, length, self.line(line))

    def line(self, number: int) -> str:
        return self.lines[number - 1] if number <= len(self.lines) else ""

    def syntax(self, error: Exception) -> Diagnostic:
        """A diagnostic for what libyaml refuses."""
        found = getattr(error, "problem_mark", None) or getattr(error, "context_mark", None)
        problem = getattr(error, "problem", None) or str(error).splitlines()[0]
        if found is None:
            return self.unprintable(problem)
        mark = self.mark(found)
        indent = re.match(r"[ ]*\t", self.line(mark.line or 1))
        if indent:
            at = replace(mark, column=indent.end(), length=1)
            return Diagnostic("a tab indents this line", at, "indent with spaces")
        context, start = getattr(error, "context", None), getattr(error, "context_mark", None)
        if context and start:
            problem = f"{problem} {context}"
            # What is open at the end of the file is better shown where it begins.
            mark = mark if (mark.text or "").strip() else self.mark(start)
        unquoted = re.search(r"(?<![\"'])\$\{[^{}]*\}", mark.text or "")
        hint = f'inside `{{…}}` and `[…]` write `"{unquoted[0]}"`' if unquoted else None
        return Diagnostic(f"not YAML: {problem}", mark, hint)

    def unprintable(self, problem: str) -> Diagnostic:
        """A diagnostic for a character that YAML forbids, which libyaml does not locate."""
        for number, line in enumerate(self.lines, start=1):
            if bad := re.search(_FORBIDDEN, line):
                mark = Mark(self.path, 0 if self.argument else number, bad.start() + 1, text=line)
                return Diagnostic(f"control character U+{ord(bad[0]):04X}", mark, "remove it")
        return Diagnostic(f"not YAML: {problem}", Mark(self.path, 1, 1, text=self.line(1)))

    def stop(self, message: str, mark: Mark, hint: str | None = None) -> NoReturn:
        raise UserError([*self.faults, Diagnostic(message, mark, hint)])
