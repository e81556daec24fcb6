"""Python source reduced to what runs: no comments, docstrings, blank lines or trailing white space.

The text stays text: a dump of the syntax tree or of the tokens differs between Python versions.
"""

from __future__ import annotations

import ast
import io
import tokenize
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from rlhfc.errors import Diagnostic, Mark, UserError
from rlhfc.store.digest import bytes_digest

# Python 3.12 splits f-strings, 3.14 t-strings, into tokens; before, they are one STRING.
OPENING = {getattr(tokenize, name, -1) for name in ("FSTRING_START", "TSTRING_START")} - {-1}
CLOSING = {getattr(tokenize, name, -1) for name in ("FSTRING_END", "TSTRING_END")} - {-1}
VALIDATORS = frozenset({"model_validator", "field_validator"})
Position = tuple[int, int]
Span = tuple[Position, Position]


@dataclass(frozen=True)
class SourceFile:
    """What a key needs of a Python file.

    Attributes:
        digest: of its text after :func:`normalise`.
        imports: modules that it may import, wherever the statement stands; relative ones with their
            dots. Of ``from .a import b`` both ``.a`` and ``.a.b``: the name may be a module.
        declares_only: whether it holds nothing but imports, models of fields with their validators,
            and ``KIND``: a ``kind.py`` whose values reach a key as leaves.
    """

    digest: str
    imports: tuple[str, ...]
    declares_only: bool = False


def read_source(path: Path) -> SourceFile:
    """Read a Python file.

    Raises:
        UserError: it is not Python.
        OSError: it cannot be read.
    """
    try:
        with tokenize.open(path) as stream:
            text = stream.read()
        tree = ast.parse(text)
        digest = bytes_digest(_reduce(text, tree).encode())
        return SourceFile(digest, tuple(_imports(tree)), _declares_only(tree))
    except (SyntaxError, ValueError) as error:
        line = getattr(error, "lineno", None) or 1
        message = f"not valid Python: {getattr(error, 'msg', error)}"
        raise UserError(Diagnostic(message, Mark(path, line, getattr(error, "offset", None) or 1))) from error


def normalise(text: str) -> str:
    """Source without comments, docstrings, blank lines and trailing white space; strings untouched.

    Raises:
        SyntaxError: ``text`` is not Python.
    """
    return _reduce(text, ast.parse(text))


def _reduce(text: str, tree: ast.Module) -> str:
    text = text.replace("\r\n", "\n").replace("\r", "\n")
    lines = text.split("\n")
    docstrings = _docstrings(tree, lines)
    strings, comments = _strings_and_comments(text)
    for start, end in sorted([*_outside(docstrings, comments), *docstrings], reverse=True):
        _cut(lines, start, end)
    inside = {line for (first, _), (last, _) in _outside(docstrings, strings) for line in range(first, last)}
    # An empty line behind a backslash ends the statement.
    ending = {number + 1 for number, line in enumerate(lines[:-1], 1) if line.endswith("\\")}
    kept = [
        line if number in inside else line.rstrip()
        for number, line in enumerate(lines, 1)
        if number in inside or number in ending or line.strip()
    ]
    return "\n".join(kept)


def _declares_only(tree: ast.Module) -> bool:
    """Whether a module holds declarations alone; see :class:`SourceFile`."""
    return all(_declares(node) for node in tree.body)


def _declares(node: ast.stmt) -> bool:
    match node:
        case ast.Import() | ast.ImportFrom() | ast.Expr(value=ast.Constant()):
            return True
        case ast.Assign(targets=[ast.Name(id="KIND")]):
            return True
        case ast.ClassDef(body=body, bases=[_, *_], decorator_list=[]):
            return all(_is_field(each) for each in body)
    return False


def _is_field(node: ast.stmt) -> bool:
    """A field, a docstring, or a validator: it refuses values and makes none."""
    match node:
        case ast.AnnAssign(annotation=annotation):
            return "ClassVar" not in ast.unparse(annotation)
        case ast.Pass() | ast.Expr(value=ast.Constant()):
            return True
        case ast.FunctionDef(decorator_list=decorators):
            names = [getattr(getattr(found, "func", None), "id", "") for found in decorators]
            return not VALIDATORS.isdisjoint(names)
    return False


def _imports(tree: ast.Module) -> dict[str, None]:
    """Dotted names in the order of first appearance."""
    found: dict[str, None] = {}
    for node in _statements(tree):
        if isinstance(node, ast.Import):
            found.update((alias.name, None) for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            base = "." * node.level + (node.module or "")
            joined = base if base.endswith(".") else f"{base}."
            found[base] = None
            found.update((joined + alias.name, None) for alias in node.names)
    return found


def _statements(node: ast.AST) -> Iterator[ast.stmt]:
    """Every statement, at any depth. Expressions hold none, so most of a tree is never looked at."""
    for blocks in ("body", "orelse", "finalbody", "handlers", "cases"):
        for below in getattr(node, blocks, ()):
            if isinstance(below, ast.stmt):
                yield below
            yield from _statements(below)


def _strings_and_comments(text: str) -> tuple[list[Span], list[Span]]:
    """Where each string and each comment outside of strings lies."""
    strings: list[Span] = []
    comments: list[Span] = []
    opened: list[Position] = []
    for token in tokenize.generate_tokens(io.StringIO(text).readline):
        if token.type in OPENING:
            opened.append(token.start)
        elif token.type in CLOSING:
            strings.append((opened.pop(), token.end))
        elif token.type == tokenize.STRING:
            strings.append((token.start, token.end))
        elif token.type == tokenize.COMMENT and not opened:
            comments.append((token.start, token.end))
    return strings, comments


def _outside(docstrings: list[Span], spans: list[Span]) -> list[Span]:
    """The spans that are no part of a docstring."""
    return [
        span for span in spans if not any(start <= span[0] and span[1] <= end for start, end in docstrings)
    ]


def _docstrings(tree: ast.Module, lines: list[str]) -> list[Span]:
    """Where the docstring of the module and of each class and function lies."""
    spans = []
    for node in (tree, *_statements(tree)):
        if not isinstance(node, ast.Module | ast.ClassDef | ast.FunctionDef | ast.AsyncFunctionDef):
            continue
        if ast.get_docstring(node, clean=False) is None:
            continue
        first = node.body[0]
        last, column = first.end_lineno or first.lineno, first.end_col_offset or 0
        start = (first.lineno, _character(lines[first.lineno - 1], first.col_offset))
        spans.append((start, (last, _character(lines[last - 1], column))))
    return spans


def _character(line: str, offset: int) -> int:
    """The syntax tree counts UTF-8 bytes, we count characters."""
    return len(line.encode()[:offset].decode())


def _cut(lines: list[str], start: Position, end: Position) -> None:
    """Remove a span, leaving its lines in place, so that later spans keep their positions."""
    (first, from_column), (last, to_column) = start, end
    if first == last:
        line = lines[first - 1]
        lines[first - 1] = line[:from_column] + line[to_column:]
        return
    lines[first - 1] = lines[first - 1][:from_column]
    lines[last - 1] = lines[last - 1][to_column:]
    for number in range(first, last - 1):
        lines[number] = ""
