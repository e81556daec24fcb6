"""Signals of the user and the system, counted; what they mean is the executor's business."""

from __future__ import annotations

import faulthandler
import signal
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from types import FrameType
from typing import Any, TextIO

DUMP_SIGNAL = signal.SIGQUIT
STOP_SIGNALS = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)


@contextmanager
def dumped(on_signal: Callable[[], None]) -> Iterator[None]:
    """Write the stacks of our threads to stderr at each SIGQUIT, call ``on_signal``, and go on."""
    before = signal.signal(DUMP_SIGNAL, lambda number, frame: on_signal())
    try:
        stream = sys.__stderr__
        if stream is not None and _has_descriptor(stream):
            # In C, so that it answers also when Python's own handlers do not come to their turn.
            faulthandler.register(DUMP_SIGNAL, file=stream, all_threads=True, chain=True)
        yield
    finally:
        faulthandler.unregister(DUMP_SIGNAL)
        signal.signal(DUMP_SIGNAL, before)


def _has_descriptor(stream: TextIO) -> bool:
    try:
        return stream.fileno() >= 0
    except (OSError, ValueError):
        return False


@contextmanager
def counted(on_signal: Callable[[], None]) -> Iterator[None]:
    """Call ``on_signal`` for each request to stop, instead of ending; as before afterwards."""

    def handle(number: int, frame: FrameType | None) -> None:
        on_signal()

    before: dict[signal.Signals, Any] = {number: signal.getsignal(number) for number in STOP_SIGNALS}
    for number, handler in before.items():
        if handler is not signal.SIG_IGN:  # `nohup` asks for that
            signal.signal(number, handle)
    try:
        yield
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)
