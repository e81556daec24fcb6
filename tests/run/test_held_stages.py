"""The executor does what a plan says of stages that hold a result or ignore changes."""

from dataclasses import replace

from rlhfc.run.summary import there_words
from rlhfc.store.publish import Publisher

CHAIN = {"a": {"value": 1}, "b": {"value": 2, "left": "a.thing"}, "c": {"value": 3, "left": "b.thing"}}


def ran(bench) -> list[str]:
    """Which stages were launched since the last look, in order of their names."""
    names = sorted(line.split()[0] for line in bench.trace() if line.endswith(" starts"))
    bench.trace_file.unlink(missing_ok=True)
    return names


def edit(bench, **stages) -> None:
    """Write the chain with other fields."""
    bench.write(**{name: {**fields, **stages.get(name, {})} for name, fields in CHAIN.items()})


def events(bench) -> list[tuple[str, str]]:
    """Event and stage of each entry of the ledger that is about a stage."""
    return [(entry["event"], entry["stage"]) for entry in bench.store().ledger.read() if "stage" in entry]


def test_frozen_stage_stands(bench):
    """Its result is read by what follows, whatever it and what is before it would make now."""
    edit(bench)
    bench.run()
    ran(bench)
    edit(bench, a={"value": 10}, b={"value": 20, "frozen": True}, c={"value": 30})
    outcome = bench.run()
    assert ["a", "c"] == ran(bench)
    assert ["done", "frozen", "done"] == [str(ended.state) for ended in outcome.stages.values()]
    assert "30(2(1()))" == bench.output(outcome, "c")
    assert "frozen" in "\n".join(bench.said)
    again = bench.run()
    assert (True, "2 of 3 stages cached, 1 frozen") == (again.nothing_to_do, there_words(again))
    assert [] == ran(bench)
    thawed = bench.run(thawed=["b"])
    assert ["b", "c"] == ran(bench)
    assert "30(20(10()))" == bench.output(thawed, "c")
    edit(bench, **{stage: {"frozen": True} for stage in "abc"})
    assert "3 of 3 stages frozen" == there_words(bench.run())


def test_result_without_an_output_is_replaced(bench):
    """One that was made before the kind had all its outputs is made anew under the same key, once."""
    edit(bench)
    first = bench.run().stages["b"].result
    ran(bench)
    store = bench.store()
    store.forget(first.key, first)
    older = replace(first, outputs={"other": first.outputs["thing"]})
    Publisher(store.layout, store.lookup).adopt(older, store.key_document(first.key))
    outcome = bench.run()
    assert (["b"], "done", "cached") == (ran(bench), outcome.stages["b"].state, outcome.stages["c"].state)
    assert (first.key, first.outputs) == (outcome.stages["b"].key, outcome.stages["b"].result.outputs)
    assert (True, []) == (bench.run().nothing_to_do, ran(bench))


def test_frozen_stage_waits_for_nobody(bench):
    """A failure before it blocks neither it nor what reads from it alone."""
    edit(bench)
    bench.run()
    ran(bench)
    edit(bench, a={"value": 10, "behave": "fail"}, b={"frozen": True}, c={"value": 30})
    assert {"a": "failed", "b": "frozen", "c": "done"} == bench.states()


def test_pinned_result_is_used(bench):
    """The run takes the result under the key, and the ledger knows it as the stage's last."""
    edit(bench)
    first = bench.run().stages["b"].key
    edit(bench, b={"value": 20})
    bench.run()
    ran(bench)
    seen = len(events(bench))
    edit(bench, b={"value": 20, "pin": first[:12]})
    outcome = bench.run()
    assert ("frozen", first) == (str(outcome.stages["b"].state), outcome.stages["b"].key)
    assert "3(2(1()))" == bench.output(outcome, "c")
    assert [] == ran(bench)
    assert [("cached", "b"), ("cached", "c")] == sorted(events(bench)[seen:])
    assert first == bench.store().last_key("toys", "b")


def test_ignored_change_launches_nothing(bench):
    """The stage is cached under the old value; with another cause it runs with the new one."""
    edit(bench)
    bench.run()
    ran(bench)
    edit(bench, b={"value": 20, "ignore_changes": ["value"]})
    seen = len(events(bench))
    assert {"a": "cached", "b": "cached", "c": "cached"} == bench.states()
    assert ([], []) == (ran(bench), events(bench)[seen:])
    edit(bench, b={"value": 20, "steps": 2, "ignore_changes": ["value"]})
    outcome = bench.run()
    assert ["b", "c"] == ran(bench)
    assert "3(20(1()))" == bench.output(outcome, "c")


def test_ignored_input_launches_nothing(bench):
    """What comes of the stage before is not read, as long as nothing else makes it run."""
    edit(bench)
    bench.run()
    ran(bench)
    edit(bench, a={"value": 10}, b={"ignore_changes": ["left"]})
    assert {"a": "done", "b": "cached", "c": "cached"} == bench.states()
    edit(bench, a={"value": 10}, b={"value": 20, "ignore_changes": ["left"]})
    outcome = bench.run()
    assert "3(20(10()))" == bench.output(outcome, "c")


def test_held_result_that_goes_during_the_run(bench, monkeypatch):
    """What the plan saw and the run does not find is a failure of the stage, told as such."""
    edit(bench)
    key = bench.run().stages["c"].key
    edit(bench, a={"value": 10}, c={"frozen": True})
    store = bench.store()
    lookups = []

    def lookup(self, asked):
        lookups.append(asked)
        return None if asked == key and lookups.count(key) > 1 else original(self, asked)

    original = type(store).lookup
    monkeypatch.setattr(type(store), "lookup", lookup)
    outcome = bench.run()
    assert ("failed", f"c: the result under `{key}` is not whole in the store") == (
        str(outcome.stages["c"].state),
        outcome.stages["c"].failure.message,
    )
