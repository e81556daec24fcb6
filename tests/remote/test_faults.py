"""A bad line to S3, a server that errs, and what a run does about a place that fails."""

import errno
import random
import socket
import threading
import time
from contextlib import suppress
from types import SimpleNamespace

import pytest
from team import FILES, Recording, contents, drafts, published

from rlhfc.remote import objects, pull, steady
from rlhfc.remote.opening import open_place
from rlhfc.remote.place import FolderPlace, PassingError, action_path, blob_path
from rlhfc.remote.pull import GivenUpError
from rlhfc.remote.record import RefusedError
from rlhfc.remote.source import BELIEVED_SECONDS, Both, Source
from rlhfc.run.restore import restore
from rlhfc.store.digest import bytes_digest

ERROR = b"HTTP/1.1 500 Internal Server Error\r\nContent-Length: 0\r\nConnection: close\r\n\r\n"


class Line:
    """A line to a server that goes wrong as it is told: one fault a connection, then none."""

    def __init__(self, host: str, port: int) -> None:
        self._server = (host, port)
        self._listener = socket.create_server(("127.0.0.1", 0))
        self.port = self._listener.getsockname()[1]
        self.faults: list[int | str] = []
        threading.Thread(target=self._accept, daemon=True).start()

    def close(self) -> None:
        """Take no more connections."""
        self._listener.close()

    def _accept(self) -> None:
        while True:
            try:
                client, _ = self._listener.accept()
            except OSError:
                return
            fault = self.faults.pop(0) if self.faults else None
            threading.Thread(target=self._serve, args=(client, fault), daemon=True).start()

    def _serve(self, client: socket.socket, fault: int | str | None) -> None:
        """Pass everything on; cut both ways after so many bytes, or answer with an error at once."""
        with client:
            if fault == "error":
                client.recv(65536)
                client.sendall(ERROR)
                return
            with socket.create_connection(self._server) as server:
                left = [fault if isinstance(fault, int) else 1 << 60]
                back = threading.Thread(target=pump, args=(server, client, left), daemon=True)
                back.start()
                pump(client, server, left)
                back.join()


def pump(source: socket.socket, target: socket.socket, left: list[int]) -> None:
    """Pass bytes on until either end closes or none are left; then close both."""
    with suppress(OSError):
        while data := source.recv(65536):
            target.sendall(data[: max(0, left[0])])
            left[0] -= len(data)
            if left[0] <= 0:
                break
    for end in (source, target):
        with suppress(OSError):
            end.shutdown(socket.SHUT_RDWR)


@pytest.fixture
def line(s3, s3_server, monkeypatch):
    """A line to the S3 server."""
    host, port = s3_server.removeprefix("http://").split(":")
    line = Line(host, int(port))
    monkeypatch.setenv("AWS_ENDPOINT_URL", f"http://127.0.0.1:{line.port}")
    monkeypatch.setattr(steady, "FIRST_WAIT_SECONDS", 0.01)
    yield line
    line.close()


@pytest.mark.parametrize(
    "faults",
    [["error", "error"], [10, 3000, "error", 0], [700_000, 1_200_000, 4_000_000, "error"]],
    ids=["errors", "early", "in-the-middle"],
)
def test_bad_line_is_outlasted(team, line, s3, monkeypatch, faults):
    """Connections that break while files go or come, and errors of the server, cost time and nothing else."""
    monkeypatch.setattr(objects, "CHUNK", 5 * 1024 * 1024)
    data = {**FILES, "large": random.Random(1).randbytes(11 * 1024 * 1024)}
    result = team.result("a", files=data)
    line.faults = list(faults)
    assert "pushed" == team.push("a", open_place(s3), result)[0]
    assert [] == line.faults
    line.faults = list(faults)
    team.pull("b", open_place(s3), result.key)
    assert [] == line.faults
    assert data == contents(team.store("b"), result)


def test_lost_answer_to_the_record(team, place, monkeypatch):
    """When the record arrives and the answer to it is lost, the push ends well all the same."""
    recording, lost = Recording(place), []
    real = recording.__getattr__("create")

    def create(path, data):
        real(path, data)
        if not lost:
            lost.append(path)
            raise PassingError("no answer")
        return real(path, data)

    recording.create = create
    told, _ = team.push("a", steady.SteadyPlace(recording, lambda _: None), result := team.result("a"))
    assert ("there already", [action_path(result.key)]) == (told, lost)
    team.pull("b", place, result.key)


class Clock:
    """A clock that is set by hand."""

    now = 0.0

    def __call__(self) -> float:
        """Seconds."""
        return self.now


def test_each_key_is_asked_for_once(team, tmp_path):
    """What is there is asked for once; what is not, again after a minute, for others push meanwhile."""
    recording, clock, warned = Recording(FolderPlace(tmp_path)), Clock(), []
    source = Source(recording, None, warned.append, clock)
    result = team.result("a")
    assert (None, None) == (source.find(result.key), source.find(result.key))
    assert 1 == len(recording.asked)
    team.push("a", FolderPlace(tmp_path), result)
    assert source.find(result.key) is None
    clock.now = BELIEVED_SECONDS
    assert result == source.find(result.key).yielded
    clock.now = 10 * BELIEVED_SECONDS
    assert source.find(result.key) is not None
    assert [action_path(result.key)] * 2 == [
        path for _, path in recording.asked if path.startswith("actions")
    ]
    assert [] == warned


def test_place_that_failed_is_left_alone(team, tmp_path):
    """After the first failure one warning is told, and nothing is asked any more."""
    recording, warned = Recording(FolderPlace(tmp_path)), []

    def fail(method, path):
        raise PassingError("the line is dead")

    recording.before = fail
    source = Source(recording, None, warned.append)
    assert [None, None] == [source.find(f"b3:{digit * 64}") for digit in "12"]
    assert 1 == len(recording.asked)
    expected = f"the shared store `{tmp_path}` cannot be used, and is left alone: the line is dead"
    assert [expected] == warned


def test_what_is_here_is_not_asked_for(team, tmp_path):
    """A result of the own store needs no request."""
    recording = Recording(FolderPlace(tmp_path))
    result = team.result("a")
    both = Both(team.store("a"), Source(recording, None, pytest.fail))
    assert (result, False, []) == (both.lookup(result.key), both.is_away(result.key), recording.asked)


def test_disk_that_fails_while_restoring_costs_a_warning(team, tmp_path, monkeypatch):
    """When the own disk takes no more, the result is not restored, and the run is told so once."""
    place, warned = FolderPlace(tmp_path), []
    result = team.result("a")
    team.push("a", place, result)
    source = Source(place, None, warned.append)

    def full(*arguments):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr("rlhfc.store.publish.Publisher.receive", full)
    assert source.restore(team.store("b"), result.key, ["thing"], lambda: False) is None
    assert [f"`{result.key}` could not be restored: No space left on device"] == warned
    assert source.find(result.key) is None


def test_lock_that_cannot_be_taken_fails_the_stage_alone(team, monkeypatch):
    """An error of our own disk at the lock is the stage's failure, not the end of the run."""
    store = team.store("b")

    def key(*_):
        raise OSError(errno.EIO, "Input/output error", "locks/0")

    monkeypatch.setattr(store.locks, "key", key)
    shop = SimpleNamespace(store=store, run="r", control=SimpleNamespace(stopping=lambda: False))
    action = SimpleNamespace(stage="a", kind=SimpleNamespace(name="toy"))
    ended = restore(shop, None, action, SimpleNamespace(key="b3:00"))
    assert ("failed", "it could not be restored: Input/output error: `locks/0`") == (
        ended.state,
        ended.failure.message,
    )


def test_stop_ends_a_restore(team, tmp_path):
    """Whoever is told to stop fetches nothing more, leaves no draft, and publishes nothing."""
    place, result = FolderPlace(tmp_path), team.result("a")
    team.push("a", place, result)
    with pytest.raises(GivenUpError):
        Source(place, None, pytest.fail).restore(team.store("b"), result.key, ["thing"], lambda: True)
    assert ([], []) == (published(team.store("b")), drafts(team.store("b")))


def test_first_failure_ends_what_else_is_fetched(team, tmp_path, monkeypatch):
    """When one file is refused, files that are under way are given up between two of their parts."""
    monkeypatch.setattr(pull, "PART", 1000)
    place = FolderPlace(tmp_path)
    result = team.result("a", files={"large": b"x" * 50_000, "small": b"y" * 1500})
    team.push("a", place, result)
    recording, failed = Recording(place), threading.Event()
    large = blob_path(bytes_digest(b"x" * 50_000))

    def before(method, path):
        if path == blob_path(bytes_digest(b"y" * 1500)):
            failed.set()
            raise FileNotFoundError(path)
        if path == large:
            failed.wait(10)
            time.sleep(0.05)

    recording.before = before
    with pytest.raises(RefusedError, match="is not there"):
        team.pull("b", recording, result.key)
    assert sum(path == large for _, path in recording.asked) < 10
