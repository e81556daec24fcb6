"""The two files through which a stage meets rlhfc: resolved config in, outputs manifest out.

Free of torch, so that stages without tensors start quickly.
"""

from __future__ import annotations

import argparse
import errno
import faulthandler
import json
import os
import signal
import sys
import time
import traceback
from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Generic, NoReturn, TypeVar

from pydantic import TypeAdapter

from rlhfc.kind import SECRET, Kind, StageParams

P = TypeVar("P", bound=StageParams)
FORMAT = 1
EXIT_USER_ERROR = os.EX_DATAERR  # 65
EXIT_DISK_FULL = os.EX_IOERR  # 74
EXIT_INTERRUPTED = os.EX_TEMPFAIL  # 75
EXIT_OUT_OF_MEMORY = 76
DUMP_SIGNAL = signal.SIGUSR1
NO_SPACE = (errno.ENOSPC, errno.EDQUOT)
NO_MEMORY = ("out of memory", "can't allocate memory", "CUBLAS_STATUS_ALLOC_FAILED")


class StageError(Exception):
    """A mistake of the user's that only the stage can see; ends with status 65."""

    def __init__(self, message: str, hint: str) -> None:
        super().__init__(message)
        self.hint = hint


class Interrupted(Exception):  # noqa: N818 - a request was met, nothing went wrong
    """The stage was asked to stop and has saved a checkpoint; ends with status 75."""


class Heartbeat:
    """A file that is touched while the stage gets on, at most once a second."""

    def __init__(self) -> None:
        self._next = 0.0

    def beat(self, path: Path) -> None:
        """Touch the file, unless that was done within the last second."""
        now = time.monotonic()
        if now >= self._next:
            self._next = now + 1.0
            with suppress(OSError):  # a disk without space for it: the log and the metrics may still grow
                path.touch()


@dataclass(frozen=True)
class InputPath:
    """A folder to read, or one ``file`` inside it."""

    path: Path
    file: str | None = None

    @property
    def full(self) -> Path:
        """The file where there is one, else the folder."""
        return self.path / self.file if self.file else self.path


@dataclass(frozen=True)
class Batch:
    """``whole == micro * accumulation * ranks``, in rows of one optimiser step."""

    whole: int
    micro: int
    accumulation: int
    ranks: int


@dataclass(frozen=True)
class Job(Generic[P]):
    """A resolved config, typed.

    Attributes:
        params: the stage's parameters.
        settings: parameters of upstream stages that expose them, by input address.
        inputs: where each input is, by address.
        outputs: an empty folder for each output port.
        deepspeed: one complete DeepSpeed config for each engine.
        paths: ``checkpoints``, ``metrics``, ``manifest``, ``stop_file`` and the others of the format.
        heartbeat: see :meth:`beat`.
    """

    stage: str
    action_key: str
    params: P
    settings: Mapping[str, Any]
    inputs: Mapping[str, InputPath]
    outputs: Mapping[str, Path]
    deepspeed: Mapping[str, dict[str, Any]]
    batch: Batch | None
    paths: Mapping[str, Path]
    heartbeat: Heartbeat = field(default_factory=Heartbeat)

    def beat(self) -> None:
        """Show that the stage gets on; called at each unit of its work, however small.

        A stage that leaves no sign of life for ``no_progress_timeout`` seconds is ended.
        """
        self.heartbeat.beat(self.paths["attempt"] / "heartbeat")

    def write_manifest(self, *, step: int, total: int, summary: Mapping[str, float | int | str]) -> None:
        """Write the outputs manifest: the stage's last act, on rank 0 only."""
        ports = {port: listing(folder) for port, folder in self.outputs.items()}
        manifest = {
            "format": FORMAT,
            "action_key": self.action_key,
            "step": step,
            "total": total,
            "ports": ports,
            "summary": dict(summary),
        }
        write_json(self.paths["manifest"], manifest)


def write_json(path: Path, value: Any) -> None:
    """Write ``value`` so that ``path`` is either as before or complete, also after a power cut."""
    beside = path.with_name(f".{path.name}.tmp")
    with beside.open("w", encoding="utf-8") as stream:
        json.dump(value, stream, indent=1, sort_keys=True, allow_nan=False)
        stream.flush()
        os.fsync(stream.fileno())
    beside.replace(path)
    sync(path.parent)


def sync(path: Path) -> None:
    """Make a file's bytes, or the names in a folder, durable."""
    descriptor = os.open(path, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def listing(folder: Path) -> list[dict[str, Any]]:
    """Every file below ``folder``: path and size in bytes, sorted by path."""
    files = sorted(path for path in folder.rglob("*") if path.is_file())
    return [{"path": path.relative_to(folder).as_posix(), "size": path.stat().st_size} for path in files]


def load_job(kind: Kind, params: type[P], config: Path) -> Job[P]:
    """Read the resolved config of a stage of ``kind``.

    Raises:
        ValueError: the file is of another format or kind.
    """
    text = json.loads(config.read_text(encoding="utf-8"))
    if (text["format"], text["kind"]) != (FORMAT, kind.name):
        raise ValueError(
            f"{config}: format {text['format']}, kind {text['kind']}; expected {FORMAT}, {kind.name}"
        )
    inputs = {name: InputPath(Path(at["path"]), at["file"]) for name, at in text["inputs"].items()}
    for address, where in inputs.items():
        _replace(text["params"], address, {"path": str(where.full)})
    words = text["batch"]
    return Job(
        stage=text["stage"],
        action_key=text["action_key"],
        params=TypeAdapter(params).validate_python(text["params"]),
        settings=text["settings"],
        inputs=inputs,
        outputs={port: Path(folder) for port, folder in text["outputs"].items()},
        deepspeed=text["deepspeed"],
        batch=words and Batch(words["global"], words["micro"], words["accumulation"], words["ranks"]),
        paths={name: Path(path) for name, path in text["paths"].items()},
    )


def revealed(text: str) -> str:
    """A setting with its ``${env:NAME}`` replaced, for use at once: what is kept has no secrets."""
    return SECRET.sub(lambda found: os.environ[found[1]], text)


def _replace(params: Any, address: str, value: Any) -> None:
    *parents, last = (int(part) if part.isdigit() else part for part in address.split("."))
    for part in parents:
        params = params[part]
    params[last] = value


def run_stage(
    kind: Kind, params: type[P], body: Callable[[Job[P]], None], arguments: Sequence[str] | None = None
) -> NoReturn:
    """Entry point of every ``main.py``: parse ``--config``, run ``body``, turn errors into exit statuses.

    The launcher adds ``--local_rank``, which the environment repeats; it is ignored.
    """
    speak_into_own_log()
    # Answers also while a collective or the file system hangs: the handler is C code.
    faulthandler.enable()
    faulthandler.register(DUMP_SIGNAL, all_threads=True)
    parser = argparse.ArgumentParser()
    parser.add_argument("--config", type=Path, required=True)
    parser.add_argument("--local_rank", type=int, default=0, help=argparse.SUPPRESS)
    job = load_job(kind, params, parser.parse_args(arguments).config)
    try:
        body(job)
    except StageError as error:
        print(f"error: {error} hint: {error.hint}", file=sys.stderr, flush=True)
        sys.exit(EXIT_USER_ERROR)
    except Interrupted:
        sys.exit(EXIT_INTERRUPTED)
    except Exception as error:
        status = status_of(error)
        if status is None:
            raise
        traceback.print_exc()
        sys.stderr.flush()
        sys.exit(status)
    sys.exit(0)


def speak_into_own_log() -> None:
    """Let what this rank says go into the pipe that its guard has made for it, where there is one."""
    streams, rank = os.environ.get("RLHFC_RANK_STREAMS"), os.environ.get("RANK", "")
    if not streams or not rank.isdecimal() or int(rank) >= len(places := streams.split(os.pathsep)):
        return
    try:
        descriptor = os.open(places[int(rank)], os.O_WRONLY)
    except OSError:  # then the common log alone has it
        return
    sys.stdout.flush()
    sys.stderr.flush()
    os.dup2(descriptor, 1)
    os.dup2(descriptor, 2)
    os.close(descriptor)


def status_of(error: Exception) -> int | None:
    """Exit status by which a lack of memory or disk space is told; None for any other error."""
    if isinstance(error, OSError) and error.errno in NO_SPACE:
        return EXIT_DISK_FULL
    kinds = [kind.__name__ for kind in type(error).__mro__]
    if isinstance(error, MemoryError) or "OutOfMemoryError" in kinds:
        return EXIT_OUT_OF_MEMORY
    if isinstance(error, RuntimeError) and any(words in str(error) for words in NO_MEMORY):
        return EXIT_OUT_OF_MEMORY
    return None
