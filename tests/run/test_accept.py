"""`rlhfc accept`: a result stands under another key, and everybody can see who said so."""

import json
from dataclasses import asdict

import pytest

from rlhfc.cli.main import main
from rlhfc.store.holder import Holder
from rlhfc.store.store import Store

CHAIN = {"a": {"value": 1}, "b": {"value": 2, "left": "a.thing"}, "c": {"value": 3, "left": "b.thing"}}
EDITED = {**CHAIN, "b": {"value": 20, "left": "a.thing", "log_every": 3}}


@pytest.fixture
def done(bench):
    """A chain that ran, and of which `b` was edited since."""
    bench.write(**CHAIN)
    bench.run()
    bench.trace_file.unlink()
    bench.write(**EDITED)
    return bench


def rlhfc(bench, command: str, *more: str) -> int:
    """Run a command on the bench's spec."""
    return main([command, str(bench.spec), *more, "--store", str(bench.folder / "store")])


def accept(bench, *more: str) -> int:
    """Accept the last result of `b`."""
    return rlhfc(bench, "accept", "b", "--why", "the same numbers", "--who", "Ada", *more)


def stages(bench, capsys) -> dict:
    """What the plan says, by stage."""
    capsys.readouterr()
    rlhfc(bench, "plan", "--json")
    return {stage["stage"]: stage for stage in json.loads(capsys.readouterr().out)["stages"]}


def test_a_result_that_is_accepted(done, capsys):
    """The stage is cached under its new key, says by whom and why, and what follows stays cached."""
    before = stages(done, capsys)["b"]
    old = done.store().last_key("toys", "b")
    assert ("run", ["value 2 → 20"]) == (before["verdict"], [why["text"] for why in before["reasons"]])
    assert 0 == accept(done)
    new = before["key"]
    said = capsys.readouterr().out
    assert f"b: accepted {old[:11]} as {new[:11]}, although value 2 → 20\n" == said
    after = stages(done, capsys)
    assert ["cached", "cached", "cached"] == [stage["verdict"] for stage in after.values()]
    told = after["b"]["accepted"]
    assert {"before": old, "who": "Ada", "why": "the same numbers"} == {
        name: told[name] for name in ("before", "who", "why")
    }
    assert [None, None] == [after[name]["accepted"] for name in ("a", "c")]
    rlhfc(done, "plan")
    assert (
        "; accepted by Ada just now: the same numbers; no rerun for log_every 10 → 3"
        in capsys.readouterr().out
    )
    assert {"a": "cached", "b": "cached", "c": "cached"} == done.states()
    assert [] == done.trace()


def test_what_is_kept_of_it(done):
    """The record has the same outputs, the key document the new settings, the ledger all the names."""
    store = done.store()
    old = store.last_key("toys", "b")
    accept(done)
    new = done.store().last_key("toys", "b")
    one, other = (asdict(store.lookup(key)) for key in (old, new))
    assert {**one, "key": new} == other
    kept = store.key_document(new)
    assert (20, 10) == (kept["document"]["config"]["params"]["value"], kept["recorded"]["params.log_every"])
    (entry,) = [entry for entry in done.store().ledger.read() if entry["event"] == "accepted"]
    del entry["time"]
    assert {
        "event": "accepted",
        "pipeline": "toys",
        "stage": "b",
        "key": new,
        "from": old,
        "who": "Ada",
        "why": "the same numbers",
    } == entry


def test_a_forced_run_replaces_it(done, capsys):
    """What is made under the key for good is nobody's word any more."""
    accept(done)
    done.run(forced=["b"])
    assert None is stages(done, capsys)["b"]["accepted"]


def test_a_second_acceptance(done, capsys):
    """A result may be carried on from edit to edit."""
    accept(done)
    first = done.store().last_key("toys", "b")
    done.write(**{**CHAIN, "b": {"value": 30, "left": "a.thing"}})
    assert 0 == accept(done)
    assert first == stages(done, capsys)["b"]["accepted"]["before"]


def test_a_frozen_stage_is_accepted(done, capsys):
    """What it holds may be accepted, and then it need not be frozen any more."""
    done.write(**{**EDITED, "b": {**EDITED["b"], "frozen": True}})
    assert 0 == accept(done)
    done.write(**EDITED)
    assert "cached" == stages(done, capsys)["b"]["verdict"]


def refused(bench, capsys, *words: str) -> str:
    """What a command is refused with."""
    capsys.readouterr()
    assert 1 == rlhfc(bench, "accept", *words)
    assert not [entry for entry in bench.store().ledger.read() if entry["event"] == "accepted"]
    return capsys.readouterr().err


def test_what_cannot_be_accepted(done, capsys):
    """Nothing new, no result, no key, no reason: each is told apart, and nothing is written."""
    key = done.store().last_key("toys", "a")
    assert (f"error: a: nothing to accept: there is a result under its key already, `{key}`\n") == refused(
        done, capsys, "a", "--why", "x"
    )
    assert (
        "error: c: its key cannot be known yet: input left waits for b.thing\nhint: run or accept `b` first\n"
    ) == refused(done, capsys, "c", "--why", "x")
    assert ("error: `--why` is empty\nhint: say why the result still holds\n") == refused(
        done, capsys, "b", "--why", " "
    )
    assert ("error: `accept bb` names no stage\nhint: did you mean `b`?\n") == refused(
        done, capsys, "bb", "--why", "x"
    )
    done.write(**EDITED, d={"value": 9})
    assert (
        "error: d: there is no result to accept: the stage has never run in this pipeline\n"
        "hint: `rlhfc run` makes one\n"
    ) == refused(done, capsys, "d", "--why", "x")
    last = done.store().last_key("toys", "b")
    done.store().layout.action(last).unlink()
    assert (
        f"error: b: there is no result to accept: the last one, under `{last}`, is not whole\n"
        "hint: `rlhfc run` makes one\n"
    ) == refused(done, capsys, "b", "--why", "x")


def test_a_run_that_makes_it_now(done, capsys):
    """Two results under one key would be decided by chance, so the run in progress goes first."""
    key = stages(done, capsys)["b"]["key"]
    with done.store().locks.free_key(key, Holder.me()):
        assert (
            f"error: b: a run is making the result under `{key}` now\nhint: stop it, or let it end\n"
        ) == refused(done, capsys, "b", "--why", "x")


def test_a_result_that_is_removed_meanwhile(done, capsys, monkeypatch):
    """Removal at work between the look and the acceptance is told, with what to do."""
    real = Store.accept

    def accept(store, result, *more):
        store.forget(result.key, result)
        return real(store, result, *more)

    monkeypatch.setattr(Store, "accept", accept)
    key = done.store().last_key("toys", "b")
    assert (f"error: b: the result under `{key}` is gone\nhint: run the same command again\n") == refused(
        done, capsys, "b", "--why", "x"
    )


def test_who_accepts(done, capsys, monkeypatch):
    """Git's user, else the login."""
    monkeypatch.setenv("GIT_CONFIG_GLOBAL", str(done.folder / "gitconfig"))
    monkeypatch.setenv("GIT_CONFIG_NOSYSTEM", "1")
    (done.folder / "gitconfig").write_text("[user]\nname = Grace\n")
    assert 0 == rlhfc(done, "accept", "b", "--why", "x")
    assert "Grace" == stages(done, capsys)["b"]["accepted"]["who"]
    monkeypatch.setenv("PATH", str(done.folder))
    monkeypatch.setenv("LOGNAME", "login")
    done.write(**{**CHAIN, "b": {"value": 30, "left": "a.thing"}})
    assert 0 == rlhfc(done, "accept", "b", "--why", "x")
    assert "login" == stages(done, capsys)["b"]["accepted"]["who"]
