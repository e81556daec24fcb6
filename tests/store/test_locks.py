"""Locks of a store: who holds them, who may take them over, and what a holder that froze may still do."""

import errno
import fcntl
import json
import os
import signal
import subprocess
import sys
import threading
import time
from dataclasses import replace
from pathlib import Path

import pytest

from rlhfc.filesystems import parse_mounts
from rlhfc.store import locks as module
from rlhfc.store.holder import Holder
from rlhfc.store.leases import LostLockError
from rlhfc.store.locks import StoppedError
from rlhfc.store.store import Store

KEY = "b3:" + "a" * 64
SECONDS = 1.0
HOLD = """
import sys, time
from pathlib import Path
from rlhfc.store.holder import Holder
from rlhfc.store.leases import LostLockError
from rlhfc.store.store import Store
locks, what = Store.create(Path(sys.argv[1])).locks, sys.argv[2]
me = Holder.me("r1")
never, silent = (lambda: False), (lambda owner: None)
held = {"key": lambda: locks.key(sys.argv[3], me, never, silent),
        "sharing": locks.sharing, "alone": lambda: locks.alone(me)}[what]()
with held as hold:
    hold.when_lost(lambda: print("told", flush=True))
    print("held", flush=True)
    sys.stdin.readline()
    try:
        hold.check()
        print("still mine", flush=True)
    except LostLockError as lost:
        print("lost:", lost, flush=True)
    sys.stdin.readline()
"""


@pytest.fixture(params=["flock", "leases"])
def root(request, tmp_path):
    """A store with the kernel's locks, and one with leases of a second."""
    Store.create(tmp_path / "store")
    if request.param == "leases":
        use_leases(tmp_path / "store")
    return tmp_path / "store"


@pytest.fixture
def leased(tmp_path):
    """A store with leases of a second."""
    Store.create(tmp_path / "store")
    use_leases(tmp_path / "store")
    return tmp_path / "store"


def use_leases(root: Path, seconds: float = SECONDS) -> None:
    """Have a store's locks be leases."""
    (root / "locks" / "leases").write_text(json.dumps({"seconds": seconds}))


@pytest.fixture
def other():
    """Starts a process that holds something; ended with the test."""
    started = []

    def start(root: Path, what: str = "key") -> subprocess.Popen:
        command = [sys.executable, "-c", HOLD, str(root), what, KEY]
        process = subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)
        started.append(process)
        assert "held\n" == process.stdout.readline()
        return process

    yield start
    for process in started:
        process.kill()
        process.communicate()


def locks_of(root: Path, said=None):
    """The locks of a store."""
    return Store.create(root, warn=(said if said is not None else []).append).locks


def taken(root: Path, within: float) -> float:
    """Seconds until the key's lock is ours; fails when that takes longer than `within`."""
    began = time.monotonic()
    late = lambda: time.monotonic() - began > within  # noqa: E731
    with locks_of(root).key(KEY, Holder.me("r2"), late, lambda owner: None):
        return time.monotonic() - began


def is_free(root: Path) -> bool:
    """Whether the key's lock can be had now."""
    with locks_of(root).free_key(KEY, Holder.me()) as hold:
        return hold is not None


def test_waiting_names_the_owner(root, other):
    """Who waits is told once whose lock it is: run, user, machine, process and since when."""
    process, said = other(root), []
    owner = Holder.read((root / "locks" / ("a" * 64 + ".owner")).read_bytes())
    began = time.monotonic()
    with (
        pytest.raises(StoppedError),
        locks_of(root).key(KEY, Holder.me(), lambda: time.monotonic() - began > 0.3, said.append),
    ):
        pass
    assert [owner.words()] == said
    assert said[0].startswith(f"run r1 of {owner.user}@")
    assert f"(pid {process.pid}, since " in said[0]


def test_lock_of_a_dead_process_is_free(root, other):
    """A holder that was killed keeps nobody waiting, and is not named."""
    process = other(root)
    assert not is_free(root)
    process.kill()
    process.wait()
    taken(root, within=SECONDS * 0.8 if (root / "locks" / "leases").exists() else 5)
    assert [] == list((root / "locks").glob("*.owner"))


def leave(root: Path, **changes: str) -> None:
    """Leave a lease of this process behind, with other values in it."""
    path = root / "locks" / ("a" * 64 + ".lease")
    with locks_of(root).free_key(KEY, Holder.me()):
        lines = dict(line.partition("=")[::2] for line in path.read_text().splitlines())
    assert {*changes} <= {*lines}
    first, *rest = {**lines, **changes}.items()
    path.write_text(f"{first[0]}\n" + "".join(f"{name}={value}\n" for name, value in rest))


def test_lease_of_a_living_process_is_respected(leased):
    """What this process holds, as far as a lease says, is not taken from it before it expires."""
    leave(leased)
    assert not is_free(leased)


def test_reused_pid_is_no_holder(leased):
    """A process that has the number of a dead holder, and another start, does not keep its lease."""
    leave(leased, start="12345")
    assert is_free(leased)


def test_holder_on_another_machine_is_waited_for_as_long_as_a_lease_lasts(leased):
    """Of another machine nothing is known but that its lease is not refreshed any more."""
    leave(leased, host="elsewhere", start="12345")
    assert not is_free(leased)
    assert taken(leased, within=20) >= SECONDS * 0.9


def test_living_holder_keeps_its_lease(leased, other):
    """A lease that is refreshed lasts, however long another waits."""
    other(leased)
    with pytest.raises(StoppedError):
        taken(leased, within=SECONDS * 3)


@pytest.mark.parametrize("jump", [-1e9, 1e9])
def test_clocks_that_jump_end_no_lease(leased, other, monkeypatch, jump):
    """Neither a clock that jumps by decades nor a time stamp of another epoch lets a lease expire."""
    process = other(leased)
    real = time.time
    monkeypatch.setattr(time, "time", lambda: real() + jump)
    path = leased / "locks" / ("a" * 64 + ".lease")
    os.utime(path, (real() + jump, real() + jump))
    with pytest.raises(StoppedError):
        taken(leased, within=SECONDS * 2)
    process.stdin.write("\n")
    process.stdin.flush()
    assert "still mine\n" == process.stdout.readline()


def test_frozen_holder_on_a_local_disk_is_waited_for(tmp_path, other):
    """The kernel's lock does not expire: who froze goes on where it was, and nobody was let in."""
    root = tmp_path / "store"
    process = other(root)
    process.send_signal(signal.SIGSTOP)
    with pytest.raises(StoppedError):
        taken(root, within=1)
    process.send_signal(signal.SIGCONT)
    process.stdin.write("\n")
    process.stdin.flush()
    assert "still mine\n" == process.stdout.readline()


@pytest.mark.parametrize("what", ["key", "sharing", "alone"])
def test_frozen_holder_learns_that_its_lease_was_taken_over(leased, other, what):
    """A holder that slept longer than its lease is told at its next check, before it does harm."""
    process = other(leased, what)
    process.send_signal(signal.SIGSTOP)
    if what == "key":
        taken(leased, within=20)
    else:
        with locks_of(leased).alone(Holder.me()):
            pass
    process.stdin.write("\n")
    process.stdin.flush()
    process.send_signal(signal.SIGCONT)
    said = [process.stdout.readline()]
    if said == ["told\n"]:
        said.append(process.stdout.readline())
    assert said[-1].startswith("lost: ")


def test_lost_lease_is_told_at_once(leased, other):
    """What was asked for with `when_lost` happens without a check, so that a command can be ended."""
    process = other(leased)
    process.send_signal(signal.SIGSTOP)
    taken(leased, within=20)
    process.send_signal(signal.SIGCONT)
    assert "told\n" == process.stdout.readline()


def inside(root: Path, what: str, seconds: float) -> bool:
    """Whether a lock of the store can be had within some seconds, in a thread of its own."""
    store, entered = locks_of(root), threading.Event()

    def enter() -> None:
        with store.sharing() if what == "sharing" else store.alone(Holder.me()):
            entered.set()

    threading.Thread(target=enter, daemon=True).start()
    return entered.wait(seconds)


@pytest.mark.parametrize(
    ("held", "wanted", "granted"),
    [
        ("sharing", "sharing", True),
        ("sharing", "alone", False),
        ("alone", "sharing", False),
        ("alone", "alone", False),
    ],
)
def test_references_and_removal_exclude_each_other(root, other, held, wanted, granted):
    """Many may make references at once; who removes is alone."""
    process = other(root, held)
    assert granted == inside(root, wanted, 5 if granted else 0.5)
    process.stdin.write("\n\n")
    process.stdin.flush()
    process.wait(10)
    assert inside(root, wanted, 10)


def test_who_wants_to_be_alone_is_not_starved(tmp_path, other):
    """While someone waits to remove, newcomers stay outside, else removal might wait for ever."""
    root = tmp_path / "store"
    process = other(root, "sharing")
    assert not inside(root, "alone", 0.3)
    assert not inside(root, "sharing", 0.3)
    process.kill()
    assert inside(root, "sharing", 10)


def test_sharing_inside_sharing(root):
    """A thread that makes references may call what does so too, also while it is alone."""
    locks = locks_of(root)
    with locks.sharing(), locks.sharing():
        assert not inside(root, "alone", 0.2)
    with locks.alone(Holder.me()), locks.sharing():
        assert not inside(root, "sharing", 0.2)
    assert inside(root, "alone", 10)


def test_waiting_for_removal_is_said(tmp_path, other, monkeypatch):
    """Who waits for long to leave something in the store is told for whom."""
    monkeypatch.setattr(module, "PATIENCE_SECONDS", 0.1)
    root, said = tmp_path / "store", []
    process = other(root, "alone")
    locks = locks_of(root, said)
    threading.Timer(0.5, process.kill).start()
    with locks.sharing():
        pass
    assert [True] == [
        f"(pid {process.pid}, since " in text and text.startswith("waits for run r1") for text in said
    ]


@pytest.mark.parametrize("where", ["key", "store"])
def test_where_flock_fails_leases_are_used(tmp_path, monkeypatch, where):
    """A file system that refuses to lock gets leases, and the store says so for all who come."""

    def refuse(descriptor: int, operation: int) -> None:
        raise OSError(errno.ENOLCK, "no locks available")

    monkeypatch.setattr(fcntl, "flock", refuse)
    locks = locks_of(tmp_path)
    with locks.sharing() if where == "store" else locks.free_key(KEY, Holder.me()) as hold:
        assert hold is not None
    assert {"seconds": module.LEASE_SECONDS} == json.loads((tmp_path / "locks" / "leases").read_text())


def test_network_file_systems_get_leases(tmp_path, monkeypatch):
    """On NFS no lock of the kernel is even tried: it may hang, or lock this machine only."""
    monkeypatch.setattr(module, "file_system", lambda path: "nfs4")
    monkeypatch.setattr(fcntl, "flock", lambda *ignored: pytest.fail("flock was tried"))
    assert is_free(tmp_path)
    assert (tmp_path / "locks" / "leases").exists()
    assert {"/": "nfs4"} == parse_mounts("1 1 0:1 / / rw - nfs4 server:/x rw")


def test_waiter_follows_when_the_store_gets_leases(tmp_path):
    """Who waited with the kernel's lock waits for the lease from the moment that the store has them."""
    locks = locks_of(tmp_path)
    claim = locks._claim(tmp_path / "locks" / "k")
    use_leases(tmp_path)
    with locks_of(tmp_path).free_key("b3:k", Holder.me()), module.ExitStack() as held:
        assert claim.take(held) is None


def test_other_machines_are_never_known_to_be_dead():
    """A process counts as dead only on the machine, in the namespace and in the boot that it was of."""
    me = Holder.me()
    gone = replace(me, start=me.start + 1)
    assert [False, True, False, False] == [
        holder.is_dead
        for holder in (me, gone, replace(gone, host="elsewhere"), replace(gone, boot="earlier"))
    ]


def test_check_notices_what_nobody_has_told(leased):
    """A claim that was replaced a moment ago is seen by reading it, before any heartbeat tells."""
    with locks_of(leased).free_key(KEY, Holder.me()) as hold:
        hold.check()
        path = leased / "locks" / ("a" * 64 + ".lease")
        theirs = path.with_name("theirs")
        theirs.write_text("another's")
        theirs.replace(path)
        with pytest.raises(LostLockError):
            hold.check()
        path.unlink()
