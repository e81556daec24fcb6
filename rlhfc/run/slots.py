"""CPU and GPU slots: what a stage needs, what there is, who gets it when."""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass

from rlhfc.compile.action import Action


@dataclass(frozen=True)
class Need:
    """Slots that a stage takes: CPU threads or GPUs."""

    cpus: int
    gpus: int


@dataclass(frozen=True)
class Grant:
    """Slots that a stage has been given.

    Attributes:
        devices: GPU numbers, empty for a CPU stage.
    """

    cpus: int
    devices: tuple[int, ...] = ()


def need_of(action: Action) -> Need:
    """Tell what a stage takes: a GPU for each rank, or a CPU for each thread of each rank."""
    if action.device == "gpu":
        return Need(cpus=0, gpus=action.params.ranks)
    return Need(cpus=action.params.ranks * action.params.threads, gpus=0)


class Slots:
    """Slots of this machine, shared by the threads of one run.

    Whoever asked first among those that fit is served first. A stage that wants more CPUs than
    there are is given all of them: it runs alone, slower, and just as right.
    """

    def __init__(self, cpus: int, devices: Sequence[int]) -> None:
        self._cpus = self._free_cpus = cpus
        self._free_devices = sorted(devices)
        self._changed = threading.Condition()
        self._queue: list[tuple[object, Need]] = []

    @contextmanager
    def held(self, need: Need, abandoned: Callable[[], bool]) -> Iterator[Grant | None]:
        """Wait for slots and hold them; None when ``abandoned`` turned true first.

        ``need.gpus`` must not be more than there are.
        """
        grant = self._take(need, abandoned)
        try:
            yield grant
        finally:
            if grant is not None:
                self._give_back(grant)

    def _take(self, need: Need, abandoned: Callable[[], bool]) -> Grant | None:
        need = Need(min(need.cpus, self._cpus), need.gpus)
        ticket = object()
        with self._changed:
            self._queue.append((ticket, need))
            try:
                while not abandoned():
                    if self._next() is ticket:
                        return self._grant(need)
                    self._changed.wait(0.2)
                return None
            finally:
                self._queue.remove((ticket, need))
                self._changed.notify_all()

    def _next(self) -> object | None:
        """Return the first in the queue whose need fits."""
        fitting = (ticket for ticket, need in self._queue if self._fits(need))
        return next(fitting, None)

    def _fits(self, need: Need) -> bool:
        return need.cpus <= self._free_cpus and need.gpus <= len(self._free_devices)

    def _grant(self, need: Need) -> Grant:
        self._free_cpus -= need.cpus
        devices, self._free_devices = self._free_devices[: need.gpus], self._free_devices[need.gpus :]
        return Grant(need.cpus, tuple(devices))

    def _give_back(self, grant: Grant) -> None:
        with self._changed:
            self._free_cpus += grant.cpus
            self._free_devices = sorted([*self._free_devices, *grant.devices])
            self._changed.notify_all()
