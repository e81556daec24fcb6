"""Two machines and a shared store, through the real command line: what one has made, the other restores."""

import json
import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest
import yaml

from rlhfc.remote.place import FolderPlace, action_path

KINDS = Path(__file__).parents[1] / "run" / "kinds"
STAGES = {
    "a": {"value": 1, "steps": 2},
    "b": {"left": "a.thing", "value": 2},
    "c": {"left": "b.thing", "right": "a.thing", "value": 3},
}
MADE = "3(2(1()),1())"


class Machine:
    """A machine: a store of its own, and a trace of what its stages did."""

    def __init__(self, folder: Path, name: str, spec: Path) -> None:
        self.store, self.spec = folder / name, spec
        self._trace = folder / f"{name}.trace"

    def call(self, command: str, *options: str, **variables: str) -> subprocess.CompletedProcess[str]:
        """Run a command; a variable that is empty counts as unset."""
        return subprocess.run(
            [sys.executable, "-m", "rlhfc", command, *options, "--store", str(self.store)],
            env={**os.environ, "TOY_TRACE": str(self._trace), **variables},
            capture_output=True,
            text=True,
            timeout=120,
            check=False,
        )

    def run(self, *options: str, **variables: str) -> dict[str, str]:
        """Run the pipeline, which must succeed; the state of each stage."""
        ended = self.call("run", str(self.spec), "--json", *options, **variables)
        assert 0 == ended.returncode, ended.stderr
        self.said = ended.stderr
        return {stage["stage"]: stage["state"] for stage in json.loads(ended.stdout)["stages"]}

    def plan(self, *options: str, **variables: str) -> dict:
        """The plan's document."""
        ended = self.call("plan", str(self.spec), "--json", *options, **variables)
        assert 0 == ended.returncode, ended.stderr
        return json.loads(ended.stdout)

    def verdicts(self, *options: str, **variables: str) -> dict[str, str]:
        """Verdict of each stage."""
        return {stage["stage"]: stage["verdict"] for stage in self.plan(*options, **variables)["stages"]}

    def trace(self) -> list[str]:
        """What the stages did here."""
        return self._trace.read_text().splitlines() if self._trace.exists() else []

    def made(self) -> str:
        """What the last stage has made, as a plan finds it here."""
        tree = next(s for s in self.plan()["stages"] if s["stage"] == "c")["result"]["outputs"]["thing"]
        return (self.store / "views" / tree.removeprefix("b3:") / "data.txt").read_text()


@pytest.fixture
def spec(tmp_path):
    """A pipeline of three stages."""
    return write_spec(tmp_path)


def write_spec(folder: Path) -> Path:
    """Write that pipeline."""
    path = folder / "toys.yaml"
    stages = {name: {"kind": "toy", **fields} for name, fields in STAGES.items()}
    path.write_text(yaml.safe_dump({"schema": 1, "kinds": [str(KINDS)], "stages": stages}, sort_keys=False))
    return path


@pytest.fixture(scope="module")
def ran(tmp_path_factory):
    """A store in which the pipeline has run."""
    folder = tmp_path_factory.mktemp("ran")
    machine = Machine(folder, "ran", write_spec(folder))
    assert {"done"} == set(machine.run(RLHFC_REMOTE="").values())
    return machine.store


@pytest.fixture
def first(tmp_path, spec, ran):
    """A machine that has run the pipeline."""
    shutil.copytree(ran, tmp_path / "first")
    return Machine(tmp_path, "first", spec)


@pytest.fixture
def second(tmp_path, spec):
    """A machine that has not."""
    return Machine(tmp_path, "second", spec)


@pytest.fixture
def shared(tmp_path):
    """An empty shared folder."""
    (tmp_path / "shared").mkdir()
    return str(tmp_path / "shared")


def push(machine: Machine, url: str) -> None:
    """Push the pipeline's results."""
    ended = machine.call("push", str(machine.spec), "--to", url)
    assert 0 == ended.returncode, ended.stderr


@pytest.mark.parametrize("where", ["folder", "s3"])
def test_second_machine_launches_nothing(first, second, request, where):
    """After a push `run` on another machine restores every stage, says from where, and launches nothing."""
    url = request.getfixturevalue({"folder": "shared", "s3": "s3"}[where])
    push(first, url)
    assert {"a": "restored", "b": "restored", "c": "restored"} == second.run(RLHFC_REMOTE=url)
    assert f"a: restored from {url}, value 1" in second.said
    assert [] == second.trace()
    assert {"a": "cached", "b": "cached", "c": "cached"} == second.run(RLHFC_REMOTE=url) == second.verdicts()
    report = (second.store / "reports" / "toys.html").read_text()
    assert "running" not in report


def test_only_what_is_missing_is_made(first, second, shared):
    """What is not in the shared store is made here, from what was restored."""
    ended = first.call("push", "--key", first.plan()["stages"][0]["key"], "--to", shared)
    assert 0 == ended.returncode, ended.stderr
    assert {"a": "restored", "b": "done", "c": "done"} == second.run(RLHFC_REMOTE=shared)
    assert {"b", "c"} == {line.split()[0] for line in second.trace()}
    assert first.plan()["stages"][2]["result"]["outputs"] == second.plan()["stages"][2]["result"]["outputs"]


def test_forced_stage_is_made(first, second, shared):
    """`--force` makes a stage whatever there is, and the rest is restored."""
    push(first, shared)
    states = second.run("--force", "b", RLHFC_REMOTE=shared)
    assert {"a": "restored", "b": "done", "c": "restored"} == states


def test_offline_asks_nobody(first, second, shared):
    """With `--offline` nothing is restored, and the shared store may be anything."""
    push(first, shared)
    assert {"done"} == set(second.run("--offline", RLHFC_REMOTE=shared).values())
    assert "warning" not in second.said
    assert {"cached"} == set(second.run("--offline", RLHFC_REMOTE="nosuch://anything").values())


def test_plan_asks_when_it_is_told_to(first, second, shared):
    """`plan` stays offline and hints; `plan --remote` shows what would be restored, and how much that is."""
    push(first, shared)
    plain = second.plan(RLHFC_REMOTE=shared)
    assert {"run"} == {stage["verdict"] for stage in plain["stages"]}
    assert ["`rlhfc run` asks the shared store first; `--remote` asks it for this plan"] == plain["hints"]
    asked = second.plan("--remote", RLHFC_REMOTE=shared)
    assert ({"restore"}, shared, []) == (
        {s["verdict"] for s in asked["stages"]},
        asked["remote"],
        asked["hints"],
    )
    assert (True, 3) == (asked["changes"], asked["summary"]["restore"])
    told = second.call("plan", str(second.spec), "--remote", RLHFC_REMOTE=shared).stdout
    assert f"Plan: 3 to restore\nRestore: at most 22 B from {shared}\n" in told
    assert not second.store.exists()


def test_plan_cannot_ask_nobody(second):
    """`plan --remote` without a shared store is refused with a hint."""
    ended = second.call("plan", str(second.spec), "--remote", RLHFC_REMOTE="")
    expected = (
        "error: `--remote`: there is no shared store to ask\nhint: name it with `export RLHFC_REMOTE=URL`\n"
    )
    assert (1, expected) == (ended.returncode, ended.stderr)


def test_saved_plan_restores(first, second, shared, tmp_path):
    """A saved plan that restores holds while the shared store has the results, and not without it."""
    push(first, shared)
    saved = str(tmp_path / "saved.plan")
    assert {"restore"} == set(second.verdicts("--remote", "-o", saved, RLHFC_REMOTE=shared).values())
    stale = second.call("run", saved, RLHFC_REMOTE="")
    assert (1, True) == (stale.returncode, "saved plan is stale" in stale.stderr)
    assert 0 == second.call("run", saved, RLHFC_REMOTE=shared).returncode
    assert [] == second.trace()
    assert 0 == second.call("run", saved, RLHFC_REMOTE="").returncode


def test_part_that_needs_what_is_elsewhere(first, second, shared):
    """`--from` accepts what is upstream and can be restored."""
    push(first, shared)
    assert 1 == second.call("run", str(second.spec), "--from", "c", RLHFC_REMOTE="").returncode
    assert {"restored"} == set(second.run("--from", "c", RLHFC_REMOTE=shared).values())


def test_pinned_result_is_restored(first, second, shared):
    """A stage that is pinned to a result which only the shared store has gets it from there."""
    push(first, shared)
    text = yaml.safe_load(second.spec.read_text())
    text["stages"]["b"] |= {"pin": first.plan()["stages"][1]["key"], "value": 9}
    second.spec.write_text(yaml.safe_dump(text, sort_keys=False))
    assert {"a": "restored", "b": "restored", "c": "restored"} == second.run(RLHFC_REMOTE=shared)


@pytest.mark.parametrize("url", ["/no/such/folder", "http://127.0.0.1:9/team"])
def test_shared_store_that_fails_costs_one_warning(second, url):
    """A run that can compute goes on without the shared store, and says so once."""
    assert {"done"} == set(second.run(RLHFC_REMOTE=url).values())
    warnings = [line for line in second.said.splitlines() if line.startswith("warning")]
    assert [f"warning: the shared store `{url}` cannot be used, and is left alone"] == [
        line.partition(":")[0] + ":" + line.partition(":")[2].rpartition(" alone")[0] + " alone"
        for line in warnings
    ]


def test_damaged_result_is_made_instead(first, second, shared):
    """What the shared store has and cannot give is told by name and made here; the rest is restored."""
    push(first, shared)
    for blob in (Path(shared) / "rlhfc-1" / "objects").rglob("*"):
        if blob.is_file() and blob.read_bytes() == b"2(1())":
            blob.chmod(0o644)
            blob.write_bytes(b"2(1())"[::-1])
    assert {"a": "restored", "b": "done", "c": "restored"} == second.run(RLHFC_REMOTE=shared)
    assert "its content is not what its name says; it is not used" in second.said
    assert "b: started" in second.said


def test_unsigned_results_are_made_where_signatures_are_asked_for(first, second, shared, tmp_path):
    """With `RLHFC_SIGNERS` what nobody trusted has signed is made anew; signed by a push, it is restored."""
    key = tmp_path / "team-key"
    subprocess.run([sys.executable, "-c", MAKE_KEY, str(key)], check=True, timeout=60)
    push(first, shared)
    trusting = {"RLHFC_REMOTE": shared, "RLHFC_SIGNERS": f"{key}.pub"}
    ended = second.call("pull", str(second.spec), **trusting)
    assert (1, True) == (ended.returncode, "nobody has signed it" in ended.stderr)
    assert {"run"} == set(second.verdicts().values())
    signed = first.call("push", str(first.spec), RLHFC_REMOTE=shared, RLHFC_SIGN_WITH=str(key))
    assert [f"{name}: signed" for name in "abc"] == signed.stdout.splitlines()[:3]
    assert {"restored"} == set(second.run(**trusting).values())


MAKE_KEY = """
import pathlib, sys
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from cryptography.hazmat.primitives.serialization import *
key = Ed25519PrivateKey.generate()
private = key.private_bytes(Encoding.PEM, PrivateFormat.OpenSSH, NoEncryption())
pathlib.Path(sys.argv[1]).write_bytes(private)
public = key.public_key().public_bytes(Encoding.OpenSSH, PublicFormat.OpenSSH)
pathlib.Path(sys.argv[1] + ".pub").write_bytes(public + b" team")
"""


def test_pull_by_spec_and_by_nothing(first, second, tmp_path, shared):
    """`pull` takes the stages of a spec, or all there is; then `plan` finds them without asking."""
    push(first, shared)
    ended = second.call("pull", str(second.spec), "--from", shared)
    expected = f"a: pulled\nb: pulled\nc: pulled\npulled from {shared}: "
    assert (0, "") == (ended.returncode, ended.stderr)
    assert ended.stdout.startswith(expected)
    assert {"cached"} == set(second.verdicts().values())
    third = Machine(tmp_path, "third", second.spec)
    assert 0 == third.call("pull", "--from", shared).returncode
    assert {"cached"} == set(third.verdicts().values())


def test_push_and_pull_told_to_programs(first, second, shared):
    """With `--json` stdout is one document: what came of each result, with key and fault, and the sums."""
    stages = first.plan()["stages"]
    first.call("push", str(first.spec), "--to", shared)
    unknown = f"b3:{'0' * 64}"
    pulled = second.call("pull", "--key", stages[0]["key"], "--key", unknown, "--from", shared, "--json")
    again = json.loads(first.call("push", str(first.spec), "--to", shared, "--json").stdout)
    assert 1 == pulled.returncode
    document = json.loads(pulled.stdout)
    assert [
        {"name": stages[0]["key"], "key": stages[0]["key"], "outcome": "pulled", "fault": None},
        {"name": unknown, "key": unknown, "outcome": "missing", "fault": "there is no result of this key"},
    ] == document["results"]
    assert (shared, 0) == (document["remote"], document["files_there"])
    assert document["files"] > 0
    assert document["bytes"] > 0
    assert [(s["stage"], s["key"], "there already") for s in stages] == [
        (each["name"], each["key"], each["outcome"]) for each in again["results"]
    ]


def test_what_pull_and_push_cannot_do(first, second, shared):
    """No shared store, a key that is none or not there, a spec and a key: each is told with its remedy."""
    key = first.plan()["stages"][0]["key"]
    told = [
        second.call("push", RLHFC_REMOTE=""),
        second.call("pull", "--key", "b3:12", "--from", shared),
        second.call("pull", "--key", key, "--from", shared),
        second.call("push", "--key", key, "--to", shared),
        second.call("push", str(second.spec), "--key", key, "--to", shared),
        second.call("pull", "--from", f"{shared}/not/there"),
    ]
    assert {1} == {ended.returncode for ended in told}
    assert [
        "error: which shared store?",
        "error: `--key b3:12` is no key",
        f"error: {key}: there is no result of this key",
        f"error: {key}: there is no result of this key",
        "error: `--key` and a spec are both given",
        "error: the shared store `./not/there` cannot be used: there is no folder `./not/there`",
    ] == [ended.stderr.splitlines()[0].replace(shared, ".") for ended in told]


def test_stages_without_a_result_are_told(second, shared):
    """A pipeline of which nothing is there pushes and pulls nothing, and says so."""
    pushed, pulled = (
        second.call(*words)
        for words in (
            ("push", str(second.spec), "--to", shared),
            ("pull", str(second.spec), "--from", shared),
        )
    )
    assert (0, ["a: no result yet", "b: no result yet"]) == (
        pushed.returncode,
        pushed.stdout.splitlines()[:2],
    )
    assert (0, ["a: not there", "b: not there"]) == (pulled.returncode, pulled.stdout.splitlines()[:2])


def test_record_of_another_stage_is_not_restored(first, second, shared):
    """A record with outputs that the stage has not is refused, and the stage runs."""
    push(first, shared)
    place, key = FolderPlace(Path(shared)), first.plan()["stages"][0]["key"]
    record = json.loads(place.read(action_path(key), 0, 100_000))
    record["result"]["outputs"]["other"] = record["result"]["outputs"]["thing"]
    place.replace(action_path(key), json.dumps(record).encode())
    assert "done" == second.run("--target", "a", RLHFC_REMOTE=shared)["a"]
    assert "has other outputs; it is not used" in second.said


def test_machine_that_cannot_run_restores(first, second, shared):
    """A machine that lacks what a stage needs restores it; when that fails, both reasons are told."""
    push(first, shared)
    text = yaml.safe_load(second.spec.read_text())
    text["stages"]["a"]["environment"] = {"TOY_KEY": "${env:TOY_KEY}"}
    second.spec.write_text(yaml.safe_dump(text, sort_keys=False))
    assert 1 == second.call("run", str(second.spec), RLHFC_REMOTE="").returncode
    blobs = [path for path in (Path(shared) / "rlhfc-1" / "objects").rglob("*") if path.is_file()]
    blob = next(path for path in blobs if path.read_bytes() == b"1()")
    blob.rename(blob.with_name("away"))
    ended = second.call("run", str(second.spec), RLHFC_REMOTE=shared)
    expected = (
        "it could not be restored, and this machine cannot run it: environment variable `TOY_KEY` is not set"
    )
    assert (1, True) == (ended.returncode, f"error: a: {expected}\n" in ended.stderr)
    blob.with_name("away").rename(blob)
    assert {"restored"} == set(second.run(RLHFC_REMOTE=shared).values())
