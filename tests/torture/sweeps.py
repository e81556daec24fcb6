"""Sweeps: a fault at every N-th call of a command, and what must hold after each."""

from __future__ import annotations

import os
import shutil
import time
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass, field
from errno import EDQUOT, EIO, EMFILE, ENOSPC, errorcode
from pathlib import Path

from faults import Fault
from lab import LEDGER, STAGES, BrokenPromiseError, Lab, dies_out, recovers, require
from soundness import unsound
from warm import Done, Warm

ERRORS = (ENOSPC, EIO, EMFILE, EDQUOT)
VICTIMS = ("stage", "guard", "run")
DONE, MISTAKE = 0, 1


@dataclass
class Figures:
    """What a sweep has come to.

    Attributes:
        tried: faults that happened.
        drafts: files that they left half written, for `rlhfc gc`.
        broken: for each fault that was not survived, what it was and which promise was broken.
        calls: calls of the command without a fault.
    """

    name: str
    tried: int = 0
    drafts: int = 0
    calls: int = 0
    broken: list[str] = field(default_factory=list)

    def point(self, what: str, check: Callable[[], int]) -> None:
        """Count a fault, and hold the store against the promises."""
        self.tried += 1
        try:
            self.drafts += check()
        except BrokenPromiseError as error:
            self.broken.append(f"{self.name}: {what}: {error}")

    def __str__(self) -> str:
        said = f"{self.name}: {self.tried} faults, {self.tried - len(self.broken)} survived"
        calls = f", at {self.calls} calls" if self.calls else ""
        return f"{said}{calls}; drafts left for gc: {self.drafts}"


Command = Callable[[Lab, Fault | None], Done]
Setup = Callable[[], Lab]


def points(every: int, start: int = 1) -> Iterator[int]:
    """Call numbers to try: every K-th."""
    number = start
    while True:
        yield number
        number += every


def sweep(name: str, setup: Setup, command: Command, faults: Iterable[Fault], after: Callable) -> Figures:
    """Try faults until one comes after the command's last call.

    Args:
        name: of the sweep.
        setup: makes the folder that a fault is tried in.
        command: runs with a fault.
        faults: in the order of their calls.
        after: gets the folder, the fault and how the command ended; returns how many drafts it has left.
    """
    figures = Figures(name)
    for fault in faults:
        lab = setup()
        done = command(lab, fault)
        if done.fault is None and done.status != -9:
            figures.calls = done.calls or 0
            if done.status not in (DONE, MISTAKE):
                figures.broken.append(f"{name}: without any fault it ends with {done.status}: {done.err}")
            break
        figures.point(f"{fault} ({done.fault})", lambda: after(lab, fault, done))  # noqa: B023
    return figures


def kills(warm: Warm, folder: Path, every: int = 1, start: int = 1) -> Figures:
    """T-KILL-N: the run is killed at its N-th call."""
    return sweep(
        "SIGKILL of run",
        lambda: Lab.make(folder / "lab", warm),
        lambda lab, fault: lab.rlhfc("run", fault=fault),
        (Fault(at, str(folder)) for at in points(every, start)),
        lambda lab, fault, done: recovers(lab),
    )


def errors(
    warm: Warm, folder: Path, number: int, *, lasting: bool, every: int = 1, start: int = 1
) -> Figures:
    """T-ERR-N: the N-th call of the run fails, or all from there on."""
    return sweep(
        f"{errorcode[number]} {'from the N-th call on' if lasting else 'once'} in run",
        lambda: Lab.make(folder / "lab", warm),
        lambda lab, fault: lab.rlhfc("run", fault=fault),
        (Fault(at, str(folder), number, lasting) for at in points(every, start)),
        _honest_and_recovers,
    )


def torn(warm: Warm, folder: Path, number: int = 0, every: int = 1) -> Figures:
    """Half of the N-th write is done; then the run is killed, or the disk is full."""
    return sweep(
        f"{errorcode[number] if number else 'SIGKILL'} in the middle of a write",
        lambda: Lab.make(folder / "lab", warm),
        lambda lab, fault: lab.rlhfc("run", fault=fault),
        (Fault(at, str(folder), number, lasting=bool(number), torn=True) for at in points(every)),
        _survives_a_torn_write,
    )


def _survives_a_torn_write(lab: Lab, fault: Fault, done: Done) -> int:
    if fault.number:
        honest(lab, fault, done)
        bad = unsound(lab.store)
        require(done.status != DONE or not bad, "it ended well, with a store that is not sound", bad)
    return recovers(lab, LEDGER)


def _honest_and_recovers(lab: Lab, fault: Fault, done: Done) -> int:
    honest(lab, fault, done)
    return recovers(lab)


def honest(lab: Lab, fault: Fault, done: Done) -> None:
    """A command that met an error has ended well, or says what was wrong.

    Raises:
        BrokenPromiseError: it does not.
    """
    require(done.status in (DONE, MISTAKE), f"it ended with {done.status}", done.err)
    require("Traceback" not in done.err and "Exception" not in done.err, "a traceback", done.err)
    if done.status != DONE:
        named = os.strerror(fault.number) in done.err or str(lab.folder) in done.err
        require(named, "it names neither reason nor path", done.err)


def other_commands(warm: Warm, folder: Path, number: int = 0, *, lasting: bool = False, every: int = 1):
    """Kill `plan` and `accept` at the N-th call, or let the call fail."""
    shown = errorcode[number] if number else "SIGKILL"
    for name, command, after in (("plan", _plan, _after_plan), ("accept", _accept, _after_accept)):
        pattern = folder / f"made-{name}"
        made = Lab.make(pattern, warm)
        require(made.rlhfc("run").status == DONE, "the first run fails")
        if name == "accept":
            made.values["a"] = 7
            made.write()
        time.sleep(2.1)  # younger files are in no cache
        yield sweep(
            f"{shown} {'from the N-th call on ' if lasting else ''}in {name}",
            lambda made=made: _again(made, folder / "lab"),
            command,
            (Fault(at, str(folder), number, lasting) for at in points(every)),
            after,
        )


def _again(made: Lab, folder: Path) -> Lab:
    """A copy of a folder, and for `plan` the folder itself as it was: copied files would be too young."""
    if made.folder.name == "made-plan":
        (made.store / "stat-cache.json").unlink(missing_ok=True)
        shutil.rmtree(made.store / "plans", ignore_errors=True)
        return made
    shutil.rmtree(folder, ignore_errors=True)
    shutil.copytree(made.folder, folder, symlinks=True)
    return Lab(folder, made.warm, folder / "store", dict(made.values))


def _plan(lab: Lab, fault: Fault | None) -> Done:
    return lab.rlhfc("plan", fault=fault)


def _accept(lab: Lab, fault: Fault | None) -> Done:
    return lab.rlhfc("accept", "a", "--why", "it holds", "--who", "me", fault=fault)


def _after_plan(lab: Lab, fault: Fault, done: Done) -> int:
    if fault.number:
        honest(lab, fault, done)
    for _ in range(2):  # made anew, then perhaps remembered
        verdicts = {stage["verdict"] for stage in lab.plan().values()}
        require({"cached"} == verdicts, "plan has forgotten what is there", verdicts)
    return 0


def _after_accept(lab: Lab, fault: Fault, done: Done) -> int:
    if fault.number:
        honest(lab, fault, done)
    verdict = lab.plan()["a"]["verdict"]
    require(verdict == "cached" or done.status != DONE, "it said that it had accepted", verdict)
    again = _accept(lab, None)
    require(again.status == DONE or verdict == "cached", "the same command does not finish", again.err)
    require(lab.plan()["a"]["verdict"] == "cached", "what was accepted does not stand")
    lab.values["a"] = STAGES["a"]["value"]  # by the model the old outputs are the right ones now
    return _finishes(lab)


def _finishes(lab: Lab) -> int:
    done = lab.rlhfc("run", "--json")
    require(done.status == DONE and lab.outputs(done) == lab.trees(), "other outputs", done.err + done.out)
    return 0


def deaths(warm: Warm, folder: Path, every: int = 1) -> Figures:
    """At each moment of each stage the stage, its guard or the run is killed."""
    figures = Figures("SIGKILL of stage, guard or run at the stage's moments")
    lab = Lab.make(folder / "lab", warm)
    require(lab.rlhfc("run").status == DONE, "the first run fails")
    moments = [(stage, what) for stage, _, what in lab.trace()]
    chosen = [(stage, what, victim) for victim in VICTIMS for stage, what in moments][::every]
    for stage, what, victim in chosen:
        lab = Lab.make(folder / "lab", warm)
        done = lab.rlhfc("run", variables={"LAB_KILL": f"{stage}:{what}:{victim}"})
        figures.point(f"{victim} of {stage} at {what}", lambda: _after_death(lab, victim, done))  # noqa: B023
    return figures


def _after_death(lab: Lab, victim: str, done: Done) -> int:
    if victim == "run":
        require(done.status == -9, f"the run ended with {done.status}", done.err)
    else:  # who dies as the last act of a stage may have done all that was wanted
        require(done.status in (DONE, MISTAKE), f"the run ended with {done.status}", done.err)
    dies_out(lab)
    return recovers(lab)
