"""Opens data sources: local files and downloaded hub data sets, always without network."""

from __future__ import annotations

import difflib
import os
from collections.abc import Collection, Mapping
from pathlib import Path

os.environ["HF_HUB_OFFLINE"] = os.environ["HF_DATASETS_OFFLINE"] = "1"  # read when datasets is imported

import datasets
from datasets.exceptions import DatasetGenerationError

from ..common.job import InputPath, StageError
from .formats import Format, alpaca, mapped, sharegpt, trl
from .kind import HUB_SETS, Columns, DataSource
from .upstream import FORMATS

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
    source: DataSource, where: InputPath, cache: Path, address: str
) -> tuple[Format, datasets.Dataset, datasets.Dataset | None]:
    """How rows of ``source`` are read, these rows, and those of its evaluation split where it names one.

    Args:
        source: what to read.
        where: the file, or the folder of a data set.
        cache: folder for converted files; the caller removes it.
        address: what messages call the source.

    Raises:
        StageError: nothing can be read, a split or column is missing, or nothing tells what they hold.
    """
    rows = load(where, source.subset, source.split, cache)
    held = None if source.eval_split is None else load(where, source.subset, source.eval_split, cache)
    form = format_of(source, rows.column_names, address)
    for part in (rows, held):
        if part is not None:
            _require_columns(_needs(source.columns, form), part.column_names, where)
    return form, _narrow(rows, form), held and _narrow(held, form)


def format_of(source: DataSource, found: Collection[str], address: str) -> Format:
    """The format of a source whose columns are ``found``.

    Raises:
        StageError: its column map makes no row, or nothing is mapped and the names tell nothing.
    """
    if source.format in HUB_SETS:
        return FORMATS[source.format]
    if source.format in ("columns", "transcript") or source.columns.mapped:
        return mapped(source, address)
    known = {"alpaca": alpaca, "sharegpt": sharegpt, "trl": trl}
    for form in known.values() if source.format == "auto" else [known[source.format]]:
        if (fits := form(found)) is not None:
            return fits
    what = "what its columns hold" if source.format == "auto" else f"how it is `{source.format}`"
    raise StageError(
        f"`{address}`: nothing tells {what}; it has {', '.join(found)}",
        "map them, for example `columns: {prompt: question, response: answer}`, or name its `format`",
    )


def load(where: InputPath, subset: str | None, split: str, cache: Path) -> datasets.Dataset:
    """Memory-mapped rows of a local file or of a downloaded data set.

    Raises:
        StageError: they cannot be read.
    """
    arguments: dict[str, object] = {"path": str(where.path), "name": subset}
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


def load_columns(
    where: InputPath, subset: str | None, split: str, columns: list[str], cache: Path
) -> datasets.Dataset:
    """These columns of a local file or of a downloaded data set.

    Raises:
        StageError: they cannot be read.
    """
    rows = load(where, subset, split, cache)
    _require_columns(dict.fromkeys(columns, "`column`"), rows.column_names, where)
    return rows.select_columns(columns)


def _narrow(rows: datasets.Dataset, form: Format) -> datasets.Dataset:
    """Only the columns that are read."""
    likes = [name for name in form.likes if name in rows.column_names]
    return rows.select_columns([*form.needs, *likes])


def _builder(file: Path) -> str:
    suffixes = [suffix.lower() for suffix in file.suffixes if suffix.lower() not in _PACKED]
    builder = _BUILDERS.get(suffixes[-1]) if suffixes else None
    if builder is None:
        raise StageError(
            f"cannot tell what `{file}` holds by its name",
            f"it should end in one of {', '.join(_BUILDERS)}, and may be packed ({', '.join(_PACKED)})",
        )
    return builder


def _needs(columns: Columns, form: Format) -> dict[str, str]:
    """Columns that are read, and what for."""
    mapped = {column: f"`columns.{part}`" for part, column in columns.mapped.items()}
    return {column: mapped.get(column, "its format") for column in form.needs}


def _require_columns(wanted: Mapping[str, str], found: Collection[str], where: InputPath) -> None:
    for column, purpose in wanted.items():
        if column in found:
            continue
        near = difflib.get_close_matches(column, found, n=1, cutoff=0.4)
        raise StageError(
            f"`{where.full}` has no column `{column}` for {purpose}; it has {', '.join(found)}",
            f"did you mean `{near[0]}`" if near else "name one of those, or leave the part out",
        )
