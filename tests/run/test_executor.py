"""The executor with toy stages: what runs, what does not, and how each way to fail is told."""

import json
import os
import shutil
from pathlib import Path

import pytest
import yaml
from workshop import KINDS

from rlhfc.cli.main import main
from rlhfc.errors import UserError
from rlhfc.run.attempt import attempts
from rlhfc.run.summary import closing_lines, run_document, table_lines

CHAIN = {"a": {"value": 1}, "b": {"value": 2, "left": "a.thing"}, "c": {"value": 3, "left": "b.thing"}}


def ran(bench) -> list[str]:
    """Which stages were launched since the last look, in order of their names."""
    names = sorted(line.split()[0] for line in bench.trace() if line.endswith(" starts"))
    bench.trace_file.unlink(missing_ok=True)
    return names


def failure(bench, stage="a"):
    """Run; return why a stage failed."""
    return bench.run().stages[stage].failure


def test_second_run_does_nothing(bench):
    """A pipeline that is done is done: the second run launches nothing and says so."""
    bench.write(**CHAIN)
    first = bench.run()
    assert ["a", "b", "c"] == ran(bench)
    assert "3(2(1()))" == bench.output(first, "c")
    second = bench.run()
    assert [] == ran(bench)
    assert (True, 0, True) == (second.nothing_to_do, second.exit_status, second.seconds < 1)


def test_runtime_leaf_reruns_nothing(bench):
    """A leaf that cannot reach the result launches nothing."""
    bench.write(**CHAIN)
    bench.run()
    ran(bench)
    bench.write(**{**CHAIN, "b": {**CHAIN["b"], "log_every": 3, "description": "other"}})
    assert {"a": "cached", "b": "cached", "c": "cached"} == bench.states()
    assert [] == ran(bench)


def test_semantic_leaf_reruns_stage_and_descendants(bench):
    """A leaf that changes the result reruns its stage and what reads from it, and nothing else."""
    bench.write(**CHAIN)
    bench.run()
    ran(bench)
    bench.write(**{**CHAIN, "b": {**CHAIN["b"], "value": 20}})
    outcome = bench.run()
    assert ["b", "c"] == ran(bench)
    assert "3(20(1()))" == bench.output(outcome, "c")


def test_ledger_says_why_each_stage_ran(bench):
    """The ledger has the causes as they turned out, also of stages that had to wait for an input."""
    bench.write(**CHAIN)
    bench.run()
    bench.write(**{**CHAIN, "b": {**CHAIN["b"], "value": 20}})
    bench.run()
    entries = [entry for entry in bench.store().ledger.read() if entry["event"] == "stage"]
    causes = [(entry["stage"], entry["state"], entry["reasons"]) for entry in entries]
    never = ["never run"]
    assert [("a", "done", never), ("b", "done", never), ("c", "done", never)] == causes[:3]
    assert ("b", "done", ["value 2 → 20"]) == causes[3]
    assert causes[4][2][0].startswith("input left b3:")


def test_equal_bytes_stop_the_wave(bench):
    """A stage that reruns and yields the same bytes leaves its descendants cached."""
    bench.write(a={"value": 1, "constant": True}, b={"left": "a.thing"})
    bench.run()
    ran(bench)
    bench.write(a={"value": 2, "constant": True}, b={"left": "a.thing"})
    assert {"a": "done", "b": "cached"} == bench.states()
    assert ["a"] == ran(bench)


def test_forced_stage_runs_again(bench):
    """`--force` launches a stage whose result is there; what reads the same bytes stays cached."""
    bench.write(**CHAIN)
    bench.run()
    ran(bench)
    assert {"a": "cached", "b": "done", "c": "cached"} == bench.states(forced=["b"])
    assert ["b"] == ran(bench)


def test_a_forced_stage_that_fails_keeps_its_result(bench):
    """The result that is there is replaced by the new one, and by nothing else."""
    bench.write(a={"value": 1})
    bench.run()
    bench.write(a={"value": 1, "behave": "fail"})
    assert {"a": "failed"} == bench.states(forced=["a"])
    ran(bench)
    assert {"a": "cached"} == bench.states()
    assert [] == ran(bench)


def test_selection_runs_a_part(bench):
    """What is left out is not launched; what `--from` leaves out must be there before anything starts."""
    bench.write(**CHAIN)
    with pytest.raises(UserError) as refused:
        bench.run(start=("b",))
    assert ["a is left out by `--from b`, and is not cached"] == [
        found.message for found in refused.value.diagnostics
    ]
    assert [] == bench.trace()
    assert {"a": "done"} == bench.states(target=("a",))
    assert {"a": "cached", "b": "done"} == bench.states(start=("b",), until=("b",))
    assert {"a": "cached", "b": "cached", "c": "done"} == bench.states(start=("c",))
    assert ["a", "b", "c"] == ran(bench)


def spans(bench) -> dict[str, tuple[float, float]]:
    """When each stage ran, on the monotonic clock."""
    at = {}
    for line in bench.trace_file.read_text().splitlines():
        stage, what, when = line.split()
        at.setdefault(stage, {})[what] = float(when)
    return {stage: (times["starts"], times["ends"]) for stage, times in at.items()}


def test_independent_stages_run_side_by_side(bench):
    """Two stages that do not read from each other overlap in time when there are slots for both."""
    bench.write(a={"step_seconds": 0.6}, b={"step_seconds": 0.6, "value": 2})
    bench.run(cpus=2)
    at = spans(bench)
    assert at["a"][0] < at["b"][1]
    assert at["b"][0] < at["a"][1]


@pytest.mark.parametrize("wide", [{"threads": 2}, {"ranks": 7}])
def test_stage_that_wants_all_slots_runs_alone(bench, wide):
    """A stage that takes every slot, or wants more than there are, shares the machine with none."""
    bench.write(a={"step_seconds": 0.2, **wide}, b={"step_seconds": 0.2, "value": 2})
    bench.run(cpus=2)
    at = spans(bench)
    assert at["a"][1] <= at["b"][0] or at["b"][1] <= at["a"][0]


def test_failure_stays_where_it_is(bench):
    """What does not depend on a failed stage goes on; what does is blocked, and the end tells all of it."""
    bench.write(
        bad={"behave": "fail"}, after={"left": "bad.thing"}, last={"left": "after.thing"}, good={"value": 5}
    )
    outcome = bench.run()
    states = {name: str(ended.state) for name, ended in outcome.stages.items()}
    assert {"bad": "failed", "after": "blocked", "last": "blocked", "good": "done"} == states
    assert 1 == outcome.exit_status
    expected = [
        "",
        "error: bad: exited with status 3",
        "its last 20 lines:",
        *(f"  | line {n}" for n in range(10, 30)),
        "see all with `rlhfc show toys.yaml bad --log`",
        "after: not started, blocked by bad",
        "last: not started, blocked by after",
    ]
    assert expected == closing_lines(outcome, Path("toys.yaml"))
    document = run_document(outcome, None)
    assert ["bad", "after"] == [
        stage["stage"] for stage in document["stages"] if stage["failure"] or stage["blocked_by"]
    ][:2]
    assert 3 == document["stages"][0]["failure"]["returncode"]
    table = [line.split() for line in table_lines(outcome)]
    assert ["stage", "state", "time", "figures"] == table[0]
    assert ["last", "blocked", "by", "after"] == table[3]


def test_log_keeps_every_byte(bench):
    """The log has the launcher's noise and bytes that are not UTF-8; what is shown leaves the noise out."""
    bench.write(a={"behave": "fail"})
    shown = failure(bench)
    assert b"noise of the launcher\nbytes that are not UTF-8: \xff\xfe\nline 0\n" in shown.log.read_bytes()


def test_user_error_is_shown_in_the_stages_words(bench):
    """Status 65 shows the stage's `error:` line and hint, and no log."""
    bench.write(a={"behave": "user_error"})
    found = failure(bench)
    assert ("column `x` is missing", "map it with `columns`", 65, ()) == (
        found.message,
        found.hint,
        found.returncode,
        found.tail,
    )


@pytest.mark.parametrize(
    ("behave", "message"),
    [
        ("lie", "exited with status 0, but it wrote no outputs manifest"),
        ("symlink", "exited with status 0, but `thing/link` is a symbolic link"),
        ("unlisted", "exited with status 0, but `thing/unlisted` is not in its outputs manifest"),
        ("not_utf8", "exited with status 0, but `thing/` holds a name that is not UTF-8: b'\\xff'"),
        ("short", "exited with status 0, but `thing/data.txt` has 0 bytes, not 3"),
        (
            "torn_tensors",
            "exited with status 0, but `thing/model.safetensors` has 73 bytes where its header says 77",
        ),
    ],
)
def test_done_must_be_proven(bench, behave, message):
    """A launcher that exits with 0 is not believed: nothing is published and the next run launches again."""
    bench.write(a={"behave": behave})
    assert message == failure(bench).message
    bench.write(a={})
    assert {"a": "done"} == bench.states()


@pytest.mark.parametrize("behave", ["survivor", "escapee"])
def test_survivors_are_ended_and_told(bench, behave):
    """A process that outlives its stage, in the session or out of it, is ended, and the stage fails."""
    bench.write(a={"behave": behave})
    message = failure(bench).message
    assert message.endswith("outlived it and was ended")
    assert "time.sleep(1000)" in message
    assert [] == bench.living()


def test_odd_names_and_links_are_published(bench):
    """Names with spaces and newlines come through; a hard link to an input's file keeps the blob whole."""
    bench.write(a={"value": 7, "behave": "odd_names"}, b={"left": "a.thing", "behave": "link_input"})
    outcome = bench.run()
    store = bench.store()
    a, b = (store.view(outcome.stages[name].result.outputs["thing"]) for name in "ab")
    assert ["a b\nc ü", "data.txt"] == sorted(path.name for path in a.iterdir())
    assert (a / "data.txt").samefile(b / "linked.txt")
    assert "7()" == (b / "linked.txt").read_text()


def test_input_that_changes_fails_the_stage(bench):
    """A local source that is edited while the stage runs makes its outputs worthless."""
    (bench.folder / "source").mkdir()
    (bench.folder / "source" / "data.txt").write_text("first")
    bench.write(a={"left": {"path": "source"}, "behave": "touch_input"})
    assert (
        "its input `left` changed while it ran, so its outputs belong to neither version"
        == failure(bench).message
    )


def test_code_that_changes_fails_the_stage(bench):
    """A kind whose code is edited while it runs: what it made is of neither version."""
    shutil.copytree(KINDS, bench.folder / "own")
    spec = {"schema": 1, "kinds": ["own"], "stages": {"a": {"kind": "toy", "behave": "edit_code"}}}
    bench.spec.write_text(yaml.safe_dump(spec))
    message = failure(bench).message
    assert "its code `toy/main.py` changed while it ran, so its outputs belong to neither version" == message


def test_damaged_result_is_made_again(bench):
    """A record or blob that is damaged is a miss, said aloud; the run mends it and goes on."""
    bench.write(**CHAIN)
    first = bench.run()
    ran(bench)
    store = bench.store()
    record = store.layout.action(first.stages["b"].key)
    record.chmod(0o644)
    record.write_bytes(record.read_bytes()[:40])
    blob = store.blob(store.tree(first.stages["a"].result.outputs["thing"])[0].digest)
    blob.unlink()
    assert {"a": "done", "b": "done", "c": "cached"} == bench.states()
    assert ["a", "b"] == ran(bench)
    assert [True, True] == [any(str(path) in line for line in bench.said) for path in (record, blob)]


def test_gpu_stage_without_gpu_is_refused_first(bench):
    """A stage that wants a GPU where there is none stops the run before anything is launched."""
    bench.write(a={}, b={"value": 2, "device": "gpu"})
    with pytest.raises(UserError) as refused:
        bench.run()
    assert "b: wants 1 GPU, and this machine has none" == refused.value.diagnostics[0].message
    assert [] == bench.trace()


def test_attempt_folder_tells_what_was_launched(bench):
    """An attempt keeps its command, config, added environment, status and log, and no secret of ours."""
    os.environ["TOY_SECRET"] = "hush"
    try:
        bench.write(a={})
        outcome = bench.run()
    finally:
        del os.environ["TOY_SECRET"]
    store = bench.store()
    attempt = attempts(store.work("a", outcome.stages["a"].key))[0]
    named = "argv.json config.json env.json exit.json log machine.json metrics.jsonl outputs.json status.json"
    names = set(named.split())
    assert names == {path.name for path in attempt.folder.iterdir()}
    argv = json.loads((attempt.folder / "argv.json").read_bytes())
    assert ["-m", "toy.main", "--config", str(attempt.folder / "config.json")] == argv[1:]
    assert "TOY_SECRET" not in json.loads((attempt.folder / "env.json").read_bytes())
    status = attempt.status()
    assert ("done", 0, None) == (status.state, status.returncode, status.reason)
    assert not (attempt.folder / "out").exists()


def test_progress_is_told_in_plain_lines(bench):
    """Without a terminal each stage has a line for its start, its progress and its end."""
    bench.write(a={"steps": 4, "step_seconds": 0.6, "value": 9})
    bench.run()
    assert "a: started" == bench.said[0]
    assert any(line.startswith(("a: step 2/4 50 %, loss 0.5", "a: step 3/4 75 %")) for line in bench.said)
    assert bench.said[-1].startswith("a: done in ")
    assert bench.said[-1].endswith(", value 9")


def test_equal_stages_are_made_once(bench):
    """Two stages with one key launch once; the second takes the first's result."""
    bench.write(a={"step_seconds": 0.3}, b={"step_seconds": 0.3})
    states = bench.states()
    assert ["cached", "done"] == sorted(states.values())
    assert 1 == len(ran(bench))


def test_download_that_fails_is_one_line_and_a_way_out(bench, monkeypatch):
    """A hub source that cannot be had fails its stage with one line, and names the mirror option."""
    monkeypatch.setenv("HF_HUB_OFFLINE", "1")
    monkeypatch.setenv("HF_HOME", str(bench.folder / "hub"))
    bench.write(a={"left": {"hub": "owner/name", "revision": "0" * 40}})
    found = failure(bench)
    assert found.message.startswith(f"cannot download `hub:owner/name@{'0' * 40}`: ")
    assert "\n" not in found.message
    assert "name a local copy with `--mirror owner/name=FOLDER`" == found.hint
    assert [] == bench.trace()


def test_missing_downloader_is_told_before_anything_starts(bench, monkeypatch):
    """Without the hub's library a run that needs a download is refused at once."""
    versions = {"huggingface-hub": None}
    monkeypatch.setattr("rlhfc.compile.world.installed_version", lambda name: versions.get(name, "1.0"))
    bench.write(a={}, b={"left": {"hub": "owner/name", "revision": "0" * 40}})
    with pytest.raises(UserError, match="`huggingface-hub` is not installed here"):
        bench.run()
    assert [] == bench.trace()


def test_source_without_commit_is_told_before_anything_starts(bench, monkeypatch):
    """A hub source whose commit is not known leaves the key undecided: nothing is guessed or launched."""
    monkeypatch.setenv("HF_HOME", str(bench.folder / "hub"))
    bench.write(a={}, b={"left": {"hub": "owner/name"}})
    with pytest.raises(UserError, match="newest commit of `owner/name` is not known here"):
        bench.run()
    assert [] == bench.trace()


def test_saved_plan_is_carried_out_and_continued(bench, monkeypatch):
    """What was saved is what runs, and the same command once more finds it done."""
    monkeypatch.setenv("TOY_TRACE", str(bench.trace_file))
    monkeypatch.chdir(bench.folder)
    bench.write(**CHAIN)
    assert 0 == main(["plan", "toys.yaml", "--store", "store", "--until", "b", "-o", "part.plan"])
    assert 0 == main(["run", "part.plan"])
    assert ["a", "b"] == ran(bench)
    assert 0 == main(["run", "part.plan"])
    bench.write(**{**CHAIN, "b": {"value": 7, "left": "a.thing"}})
    assert 1 == main(["run", "part.plan"])
    assert [] == ran(bench)
