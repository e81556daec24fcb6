"""Copies of training state on the host, and a thread that writes them while training goes on.

DeepSpeed hands every file of a checkpoint to its checkpoint engine, a plug-in. Ours copies what it is
given and returns; :class:`Background` writes the copies. The files are those that DeepSpeed itself would
write, so that its tools read them.
"""

from __future__ import annotations

import copy
import os
import threading
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import torch
from blake3 import blake3
from deepspeed.runtime.checkpoint_engine.torch_checkpoint_engine import TorchCheckpointEngine

# Training threads look at a writer this often while they wait for it, in seconds.
GLANCE = 0.02


def on_host(value: Any) -> Any:
    """A copy of ``value`` that nothing done to the original reaches; tensors in memory of the host.

    Mappings, lists and tuples keep their types. Two names of one tensor (tied weights) stay one.
    """
    return _copied(value, {})


def _copied(value: Any, tensors: dict[Any, torch.Tensor]) -> Any:
    if isinstance(value, torch.Tensor):
        place = (value.device, value.data_ptr(), value.shape, value.stride(), value.dtype)
        if place not in tensors or not value.numel():
            tensors[place] = value.detach().to("cpu", copy=True)
        return tensors[place]
    if isinstance(value, dict):
        copied = copy.copy(value)  # keeps the type and what a module's state says of its versions
        copied.update((name, _copied(item, tensors)) for name, item in value.items())
        return copied
    if type(value) in (list, tuple):
        return type(value)(_copied(item, tensors) for item in value)
    return copy.deepcopy(value)


def tensor_bytes(value: Any) -> int:
    """Bytes of all tensors in ``value``."""
    if isinstance(value, torch.Tensor):
        return value.numel() * value.element_size()
    if isinstance(value, Mapping):
        return sum(tensor_bytes(item) for item in value.values())
    if isinstance(value, list | tuple):
        return sum(tensor_bytes(item) for item in value)
    return 0


class SnapshotEngine(TorchCheckpointEngine):
    """DeepSpeed's checkpoint engine that keeps copies and writes nothing; it loads as its parent does."""

    def __init__(self) -> None:
        super().__init__()
        self.files: dict[Path, Any] = {}

    def save(self, state_dict: Any, path: str) -> None:
        """Copy what DeepSpeed would have in the file ``path``."""
        self.files[Path(path)] = on_host(state_dict)

    def take(self) -> dict[Path, Any]:
        """What was saved since the last call, by path."""
        taken, self.files = self.files, {}
        return taken


class _Hashed:
    """A file that digests what goes through it and remembers why it failed: torch tells only that."""

    def __init__(self, path: Path, beat: Callable[[], None]) -> None:
        self._stream, self._beat = path.open("wb"), beat
        self._hasher = blake3()
        self.size = 0
        self.error: OSError | None = None

    @property
    def digest(self) -> str:
        return f"b3:{self._hasher.hexdigest()}"

    def write(self, data: Any) -> int:
        try:
            self._stream.write(data)
        except OSError as error:
            self.error = self.error or error
            raise
        self._hasher.update(data)
        self.size += len(data)
        self._beat()
        return len(data)

    def flush(self) -> None:
        self._stream.flush()

    def close(self) -> None:
        self._stream.flush()
        os.fsync(self._stream.fileno())
        self._stream.close()

    def drop(self) -> None:
        try:
            self._stream.close()
        except OSError:  # what could not be flushed is told already
            os.close(self._stream.fileno())


def write_tensors(path: Path, value: Any, beat: Callable[[], None]) -> tuple[int, str]:
    """Save ``value`` as torch does, durably; size in bytes and digest of what was meant to be written.

    Args:
        path: of the file; folders above it are made.
        value: what ``torch.save`` takes.
        beat: shows that the stage gets on; called at each piece that is written.

    Raises:
        OSError: it could not be written; names the path and the bytes of its tensors.
    """
    stream = None
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        stream = _Hashed(path, beat)
        torch.save(value, stream)
        stream.close()
    except Exception as error:
        cause = stream.error if stream is not None and stream.error is not None else error
        if stream is not None:
            stream.drop()
        if not isinstance(cause, OSError):
            raise
        text = f"{cause.strerror}, in writing a file of {tensor_bytes(value):,} bytes or more"
        raise OSError(cause.errno, text, str(path)) from error
    return stream.size, stream.digest


class Background:
    """At most one piece of work at a time, on a thread that a process waits for before it ends."""

    def __init__(self) -> None:
        self._thread: threading.Thread | None = None
        self.error: Exception | None = None

    def start(self, work: Callable[[], None]) -> None:
        """Begin; the caller has waited for what was before."""
        assert self.idle(0)
        self._thread = threading.Thread(target=self._run, args=(work,), name="checkpoint")
        self._thread.start()

    def idle(self, patience: float) -> bool:
        """Whether the work is over, well or not; looks for at most ``patience`` seconds."""
        if self._thread is not None:
            self._thread.join(patience)
            if self._thread.is_alive():
                return False
        self._thread = None
        return True

    def _run(self, work: Callable[[], None]) -> None:
        try:
            work()
        except Exception as error:  # told by the training thread at its next step
            self.error = error
