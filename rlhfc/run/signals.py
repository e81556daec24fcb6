"""Signals of the user and the system, counted; what they mean is the executor's business."""

from __future__ import annotations

import signal
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from types import FrameType
from typing import Any

STOP_SIGNALS = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)


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
