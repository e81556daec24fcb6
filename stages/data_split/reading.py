"""Opens data sources: local files and downloaded hub data sets, always without network."""

from __future__ import annotations

import difflib
import os
from collections.abc import Iterable
from pathlib import Path

os.environ["HF_HUB_OFFLINE"] = os.environ["HF_DATASETS_OFFLINE"] = "1"  # read when datasets is imported

import datasets
from datasets.exceptions import DatasetGenerationError

from ..common.job import InputPath, StageError
from .kind import Columns, DataSource

_BUILDERS = {
    ".json": "json",
    ".jsonl": "json",
    ".ndjson": "json",
    ".parquet": "parquet",
    ".arrow": "arrow",
    ".csv": "csv",
}
_PACKED = (".gz", ".zst", ".xz", ".bz2")

datasets.disable_progress_bars()
datasets.logging.set_verbosity_error()


def open_source(
    source: DataSource, where: InputPath, cache: Path
) -> tuple[datasets.Dataset, datasets.Dataset | None]:
    """Rows of ``source``, and those of its evaluation split where it names one.

    Args:
        source: what to read, and which columns must be there.
        where: the file, or the folder of a data set.
        cache: folder for converted files; the caller removes it.

    Raises:
        StageError: nothing can be read, or a split or column is missing.
    """
    rows = _load(source, where, source.split, cache)
    held = None if source.eval_split is None else _load(source, where, source.eval_split, cache)
    for part in (rows, held):
        if part is not None:
            _require_columns(source.columns, part.column_names, where)
    return rows, held


def _load(source: DataSource, where: InputPath, split: str, cache: Path) -> datasets.Dataset:
    arguments: dict[str, object] = {"path": str(where.path), "name": source.subset}
    if where.file is not None:
        arguments = {"path": _builder(where.full), "data_files": str(where.full)}
    try:
        return datasets.load_dataset(**arguments, split=split, cache_dir=str(cache), trust_remote_code=False)
    except (DatasetGenerationError, StopIteration, ValueError, OSError, KeyError) as error:
        cause = error.__cause__ or error
        # What datasets makes of a file without rows is a bare StopIteration.
        empty = isinstance(cause, StopIteration)
        reason = "it holds no row" if empty else (str(cause).strip() or type(cause).__name__).splitlines()[0]
        raise StageError(
            f"cannot read split `{split}` of `{where.full}`: {reason}",
            "JSON Lines need one object a line, JSON a list of objects; "
            "a folder needs a layout that `datasets.load_dataset` knows",
        ) from error


def _builder(file: Path) -> str:
    suffixes = [suffix.lower() for suffix in file.suffixes if suffix.lower() not in _PACKED]
    builder = _BUILDERS.get(suffixes[-1]) if suffixes else None
    if builder is None:
        raise StageError(
            f"cannot tell what `{file}` holds by its name",
            f"it should end in one of {', '.join(_BUILDERS)}, and may be packed ({', '.join(_PACKED)})",
        )
    return builder


def _require_columns(columns: Columns, found: Iterable[str], where: InputPath) -> None:
    names = list(found)
    for part, wanted in columns.model_dump(exclude_none=True).items():
        if wanted in names:
            continue
        near = difflib.get_close_matches(wanted, names, n=1, cutoff=0.4)
        raise StageError(
            f"`{where.full}` has no column `{wanted}` for `columns.{part}`; it has {', '.join(names)}",
            f"did you mean `{near[0]}`" if near else "name one of those, or leave the part out",
        )
