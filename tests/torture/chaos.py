"""The chaos loop: actors run, kill, edit, revert, plan, corrupt, check and collect on one store, for hours.

Each actor has a spec of its own, all specs come to the same few keys, and a model knows what each stage must
yield. The seed decides what each actor does; how the actors meet is decided by the machine.
"""

from __future__ import annotations

import random
import shutil
import threading
import time
from collections import Counter, deque
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

from lab import STAGES, BrokenPromiseError, Lab, dies_out, require
from soundness import unsound
from warm import Warm

from rlhfc.store.store import Store

ACTORS = 3
SEEN = 40  # last actions that a failure shows
DATA = ("once upon a time", "there was a time", "")
NO_DOCUMENT = "has no key document"
WEIGHTS = {"edit": 4, "revert": 2, "run": 5, "kill": 5, "plan": 4, "corrupt": 1, "fsck": 1, "gc": 1}


class Gate:
    """Many may use the store, or one may damage it."""

    def __init__(self) -> None:
        self._condition, self._inside, self._alone = threading.Condition(), 0, False

    @contextmanager
    def shared(self) -> Iterator[None]:
        """Use the store beside others."""
        with self._condition:
            self._condition.wait_for(lambda: not self._alone)
            self._inside += 1
        try:
            yield
        finally:
            with self._condition:
                self._inside -= 1
                self._condition.notify_all()

    @contextmanager
    def alone(self) -> Iterator[None]:
        """Have the store alone."""
        with self._condition:
            self._condition.wait_for(lambda: not self._alone)
            self._alone = True
            self._condition.wait_for(lambda: self._inside == 0)
        try:
            yield
        finally:
            with self._condition:
                self._alone = False
                self._condition.notify_all()


class Chaos:
    """The store, the actors, and what they did."""

    def __init__(self, folder: Path, seed: int) -> None:
        self.folder, self.seed, self.gate = folder, seed, Gate()
        self.done: Counter[str] = Counter()
        self.last: deque[str] = deque(maxlen=SEEN)
        self._losses, self._losers, self._lock = 0, 0, threading.Lock()
        self.failure: str | None = None
        self.began = time.monotonic()
        shutil.rmtree(folder, ignore_errors=True)
        Store.create(folder / "store")

    def run(self, seconds: float) -> Counter[str]:
        """Let the actors act so long; how often they did what.

        Raises:
            BrokenPromiseError: a promise was broken; with seed and last actions.
        """
        actors = [Actor(self, number) for number in range(ACTORS)]
        until = self.began + seconds
        threads = [threading.Thread(target=actor.act, args=(until,)) for actor in actors]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        try:
            if self.failure is None:
                self._end(actors)
        finally:
            for actor in actors:
                actor.lab.warm.close()
        return self.done

    def note(self, text: str) -> None:
        """Remember an action for the case of a failure."""
        self.last.append(f"{time.monotonic() - self.began:8.2f} s  {text}")

    @contextmanager
    def losing(self) -> Iterator[None]:
        """The store may lose results: what a run has left before or meanwhile need not be there."""
        with self._lock:
            self._losers += 1
        try:
            yield
        finally:
            with self._lock:
                self._losers, self._losses = self._losers - 1, self._losses + 1

    def lost(self) -> int | None:
        """How often the store has lost results; None while it may be losing some."""
        with self._lock:
            return None if self._losers else self._losses

    def report(self, error: object) -> str:
        """A failure, with what led there."""
        lines = "\n  ".join(self.last)
        return f"{error}\nseed {self.seed}, store {self.folder / 'store'}; the last actions:\n  {lines}"

    def _end(self, actors: list[Actor]) -> None:
        for actor in actors:
            actor.plays("run", actor.run)
        dies_out(actors[0].lab)
        actors[0].fsck()  # what was damaged and never asked for lies there still
        # A lost key document costs an explanation, and nobody can make it again.
        bad = [fault for fault in unsound(self.folder / "store") if NO_DOCUMENT not in fault]
        require(not bad, "the store is not sound after `fsck --repair`", bad)


class Actor:
    """Somebody with a spec, who uses the store beside the others."""

    def __init__(self, chaos: Chaos, number: int) -> None:
        self.chaos, self.number = chaos, number
        self.chance = random.Random(f"{chaos.seed}/{number}")
        self.lab = Lab.make(chaos.folder / f"actor{number}", Warm(), chaos.folder / "store")
        self.stands: int | None = None  # how much the store had lost when all of our results were in it
        self._deeds: dict[str, Callable[[], None]] = {
            "edit": self.edit, "revert": self.revert, "run": self.run, "kill": self.kill, "plan": self.plan,
            "corrupt": self.corrupt, "fsck": self.fsck, "gc": self.gc,
        }  # fmt: skip

    def act(self, until: float) -> None:
        """Do one thing after the other, until the time is over or somebody failed."""
        names = list(self._deeds)
        weights = [WEIGHTS[name] for name in names]
        try:
            while time.monotonic() < until and self.chaos.failure is None:
                (name,) = self.chance.choices(names, weights)
                self.plays(name, self._deeds[name])
        except BaseException as error:
            self.chaos.failure = self.chaos.failure or self.chaos.report(f"{type(error).__name__}: {error}")

    def plays(self, name: str, deed: Callable[[], None]) -> None:
        """Do one thing, noted."""
        self.note(name)
        deed()
        self.chaos.done[name] += 1

    def note(self, text: str) -> None:
        """See :meth:`Chaos.note`."""
        values = "".join(str(value) for value in self.lab.values.values())
        self.chaos.note(f"actor {self.number} ({values} {self.lab.data[:5]!r}) {text}")

    def edit(self) -> None:
        """Another value of a stage, or other data."""
        if self.chance.random() < 0.2:
            self.lab.data = self.chance.choice(DATA)
        else:
            self.lab.values[self.chance.choice(list(STAGES))] = self.chance.randint(1, 4)
        self._written()

    def revert(self) -> None:
        """Everything as it was in the beginning."""
        self.lab.values = {name: int(row["value"]) for name, row in STAGES.items()}
        self.lab.data = DATA[0]
        self._written()

    def _written(self) -> None:
        self.lab.step_seconds = self.chance.choice([0.0, 0.0, 0.05])
        self.lab.write()
        self.stands = None

    def run(self) -> None:
        """Run to the end: what comes out is what the model says."""
        with self.chaos.gate.shared():
            before = self.chaos.lost()
            done = self.lab.rlhfc("run", "--json")
            require(done.status == 0, f"a run ended with {done.status}", done.err)
            found, expected = self.lab.outputs(done), self.lab.trees()
            require(found == expected, "a stage yields what it must not", f"{found}\n{expected}")
            # A run that is over keeps nothing any more, and gc may be quicker than its process ends.
            self.stands = before if before == self.chaos.lost() else None

    def kill(self) -> None:
        """Run, and be killed at some moment."""
        with self.chaos.gate.shared():
            done = self.lab.rlhfc("run", kill_after=self.chance.uniform(0.02, 2.0))
            require(done.status in (0, -9), f"a run ended with {done.status}", done.err)
            self.note(f"was killed: {done.status}")

    def plan(self) -> None:
        """What a whole run has left is cached, unless something was lost."""
        with self.chaos.gate.shared():
            verdicts = {stage["verdict"] for stage in self.lab.plan().values()}
            # Asked afterwards, since gc may have come while the plan was made; a loss is never taken back.
            there = self.stands is not None and self.stands == self.chaos.lost()
            require(not there or verdicts == {"cached"}, "plan has forgotten results", verdicts)

    def corrupt(self) -> None:
        """Lose or damage a file of the store."""
        with self.chaos.gate.alone(), self.chaos.losing():
            files = [path for path in self.lab.store.rglob("*") if path.is_file() and self._may_go(path)]
            if not files:
                return
            path = self.chance.choice(sorted(files))
            how = self.chance.choice(["delete", "truncate", "flip"])
            self.note(f"{how} {path.relative_to(self.lab.store)}")
            _damage(path, how, self.chance)

    def _may_go(self, path: Path) -> bool:
        """Not what makes the folder a store; views are the blobs under other names."""
        return path.relative_to(self.lab.store).parts[0] in (
            "objects",
            "trees",
            "actions",
            "keydocs",
            "work",
            "plans",
        )

    def fsck(self) -> None:
        """Check and repair beside the others."""
        self._upkeep((0, 1), "fsck", "--repair")

    def gc(self) -> None:
        """Collect, beside the others and whatever its age, what no run uses at the moment."""
        self._upkeep((0,), "gc", "--grace", "0", "--keep-runs", self.chance.choice("0123"))

    def _upkeep(self, statuses: tuple[int, ...], *command: str) -> None:
        with self.chaos.gate.shared(), self.chaos.losing():
            done = self.lab.warm.run([*command, "--store", str(self.lab.store)], self.lab.folder)
            require(done.status in statuses, f"{command[0]} ended with {done.status}", done.err)


def chaos(folder: Path, seconds: float, seed: int) -> str:
    """Run the loop; the figures as a line.

    Raises:
        BrokenPromiseError: with seed and last actions.
    """
    loop = Chaos(folder, seed)
    try:
        done = loop.run(seconds)
    except BrokenPromiseError as error:
        raise BrokenPromiseError(loop.report(error)) from error
    if loop.failure is not None:
        raise BrokenPromiseError(loop.failure)
    counts = ", ".join(f"{count} × {name}" for name, count in sorted(done.items()))
    return f"chaos, {seconds:.0f} s, {ACTORS} actors, seed {seed}: {counts}; every promise held"


def _damage(path: Path, how: str, chance: random.Random) -> None:
    path.chmod(0o644)
    data = path.read_bytes()
    if how == "delete":
        path.unlink()
    elif how == "truncate" or not data:
        path.write_bytes(data[: chance.randrange(len(data)) if data else 0])
    else:
        place = chance.randrange(len(data))
        path.write_bytes(data[:place] + bytes([data[place] ^ 1 << chance.randrange(8)]) + data[place + 1 :])
