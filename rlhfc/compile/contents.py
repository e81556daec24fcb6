"""What can be seen of local content before anything is launched: columns of data, vocabularies.

Only cheap looks are taken, and only at what lies here: the first row of JSON files, a model folder's
``tokenizer.json``. What cannot be seen (hub, Parquet, GGUF) is left to the stages, which look again.
"""

from __future__ import annotations

import gzip
import hashlib
import json
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from rlhfc.compile.action import Action, ResolvedSource, UpstreamOutput
from rlhfc.errors import Diagnostic, did_you_mean
from rlhfc.spec.inputs import fits_pattern
from rlhfc.spec.load import StageSpec

LONGEST_ROW = 16 * 1024 * 1024  # bytes looked at; a longer first row is the stage's to judge
Vocabulary = str


def first_row(path: Path) -> Mapping[str, Any] | None:
    """First row of a local JSON, JSONL or gzipped JSONL file; None when it cannot be seen cheaply."""
    opened = gzip.open if path.name.endswith(".gz") else open
    try:
        with opened(path, "rt", encoding="utf-8") as stream:
            text = stream.read(LONGEST_ROW) if path.suffix == ".json" else stream.readline(LONGEST_ROW)
        rows = _first_of_list(text) if path.suffix == ".json" else json.loads(text)
    except (OSError, ValueError, EOFError):
        return None
    return rows if isinstance(rows, dict) else None


def _first_of_list(text: str) -> Any:
    start = text.index("[") + 1
    begin = len(text) - len(text[start:].lstrip())
    return json.JSONDecoder().raw_decode(text, begin)[0]


def missing_columns(stage: StageSpec, action: Action) -> Iterator[Diagnostic]:
    """Mapped columns that the first row of a local file does not have."""
    for pattern, columns_at in action.kind.columns.items():
        for address, source in action.inputs.items():
            if not fits_pattern(address, pattern) or not isinstance(source, ResolvedSource):
                continue
            row = _row_of(source)
            if row is None:
                continue
            index = address.split(".")
            path = tuple(
                index[place] if part == "*" else part for place, part in enumerate(columns_at.split("."))
            )
            for part, column in _leaf(action.params, path):
                if column not in row:
                    message = f"{stage.called}.{address}: `{source.file}` has no column `{column}`"
                    hint = did_you_mean(column, row, "its columns")
                    yield Diagnostic(message, stage.locate((*path, part)), hint)


def _row_of(source: ResolvedSource) -> Mapping[str, Any] | None:
    if source.path is None or source.file is None:
        return None
    return first_row(source.path / source.file)


def _leaf(params: Any, path: tuple[str, ...]) -> Iterator[tuple[str, str]]:
    """(name, column) of each mapped part."""
    for part in path:
        params = params[int(part)] if part.isdigit() else getattr(params, part)
    for name in type(params).model_fields:
        column = getattr(params, name)
        if isinstance(column, str):
            yield name, column


class Vocabularies:
    """Follows tokenizers through the graph: inputs of one stage must agree on what an id means."""

    def __init__(self) -> None:
        self._of_stage: dict[str, tuple[Vocabulary, str]] = {}
        self._read: dict[Path, Vocabulary | None] = {}

    def check(self, stage: StageSpec, action: Action) -> Iterator[Diagnostic]:
        """Report the first input whose vocabulary is known and is not that of an earlier input."""
        known: tuple[Vocabulary, str] | None = None
        first = ""
        for address in action.kind.one_vocabulary:
            found = self._of(action.inputs.get(address))
            if found is None:
                continue
            if known is None:
                known, first = found, address
            elif known[0] != found[0]:
                message = (
                    f"{stage.called}: `{first}` and `{address}` have different tokenizers, "
                    f"{known[1]} and {found[1]}"
                )
                hint = "make both from one tokenizer: ids of one mean other text, or nothing, to the other"
                binding = action.inputs[address]
                origin = binding.origin.partition(":")[0] if isinstance(binding, ResolvedSource) else "ref"
                yield Diagnostic(message, stage.locate((address, origin)), hint)
                break
        if known is not None:
            self._of_stage[stage.name] = known

    def _of(self, binding: UpstreamOutput | ResolvedSource | None) -> tuple[Vocabulary, str] | None:
        if isinstance(binding, UpstreamOutput):
            return self._of_stage.get(binding.stage)
        if binding is None or binding.path is None or binding.file is not None:
            return None
        if binding.path not in self._read:
            self._read[binding.path] = vocabulary(binding.path / "tokenizer.json")
        found = self._read[binding.path]
        return (found, f"`{binding.origin.partition(':')[2]}`") if found is not None else None


def vocabulary(path: Path) -> Vocabulary | None:
    """Digest of every token with its id in a ``tokenizer.json``; None when it cannot be read.

    Only vocabulary and added tokens count: two files that cut or pad differently still agree on ids.
    """
    try:
        content = json.loads(path.read_bytes())
        tokens = content["model"]["vocab"]
        added = sorted((token["id"], token["content"]) for token in content.get("added_tokens", ()))
    except (OSError, ValueError, KeyError, TypeError):
        return None
    ordered = sorted(tokens.items()) if isinstance(tokens, dict) else tokens
    return hashlib.sha256(json.dumps([ordered, added]).encode()).hexdigest()
