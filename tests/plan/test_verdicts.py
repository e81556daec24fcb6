"""Verdicts and reasons, told as a user's story: run, touch one thing, plan."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest
from toy import Toy

from rlhfc.compile.action import ResolvedSource
from rlhfc.compile.reasons import Reason, ReasonCode
from rlhfc.plan.compare import Difference
from rlhfc.plan.planner import Plan, Verdict

Verdicts = dict[str, tuple[str, list[Reason]]]
NEVER = Reason(ReasonCode.NEVER_RUN)


def decided(plan: Plan) -> Verdicts:
    """Verdict and reasons of each stage."""
    return {name: (str(stage.verdict), list(stage.reasons)) for name, stage in plan.stages.items()}


def waits_for(stage: str) -> Reason:
    """The input that another stage makes."""
    return Reason(ReasonCode.UPSTREAM_PENDING, "source", after=f"{stage}.out")


CACHED: Verdicts = {"split": ("cached", []), "fit": ("cached", []), "score": ("cached", [])}


def test_before_the_first_run(toy: Toy) -> None:
    """Everything runs, and says for what it waits."""
    assert {
        "split": ("run", [NEVER]),
        "fit": ("run", [NEVER, waits_for("split")]),
        "score": ("run", [NEVER, waits_for("fit")]),
    } == decided(toy.plan())


def test_after_a_run(toy: Toy) -> None:
    """There is nothing to do."""
    toy.run()
    plan = toy.plan()
    assert CACHED == decided(plan)
    assert plan.nothing_to_do


def test_a_semantic_edit(toy: Toy) -> None:
    """The stage runs with old and new value; what follows is open until its output is known."""
    toy.run()
    toy.edit("fit", rate=0.05)
    assert {
        "split": ("cached", []),
        "fit": ("run", [Reason(ReasonCode.PARAMETER_CHANGED, "rate", 0.1, 0.05)]),
        "score": ("undecided", [waits_for("fit")]),
    } == decided(toy.plan())


def test_an_edit_behind_an_edit(toy: Toy) -> None:
    """A stage with a change of its own runs for certain, whatever comes from upstream."""
    toy.run()
    toy.edit("fit", rate=0.05)
    toy.edit("score", seed=1)
    expected = ("run", [Reason(ReasonCode.PARAMETER_CHANGED, "seed", 1234, 1), waits_for("fit")])
    assert expected == decided(toy.plan())["score"]


def test_an_edit_taken_back(toy: Toy) -> None:
    """The earlier result is still there, so nothing runs."""
    toy.run()
    toy.edit("fit", rate=0.05)
    toy.run("2")
    toy.edit("fit", rate=0.1)
    assert CACHED == decided(toy.plan())


def test_an_edit_taken_back_behind_an_edit(toy: Toy) -> None:
    """A stage that waits, and once had a result with the values of now, may yet be cached."""
    toy.run()
    toy.edit("score", seed=7)
    toy.run("2")
    toy.edit("score", seed=1234)
    toy.edit("fit", rate=0.05)
    changed = Reason(ReasonCode.PARAMETER_CHANGED, "seed", 7, 1234)
    assert ("undecided", [changed, waits_for("fit")]) == decided(toy.plan())["score"]
    toy.edit("score", seed=8)
    assert "run" == decided(toy.plan())["score"][0]


def test_the_same_bytes_stop_the_wave(toy: Toy) -> None:
    """When a rerun yields the same output, what follows is cached without running."""
    toy.run()
    toy.edit("fit", rate=0.05)
    key = toy.plan().stages["fit"].key
    assert key is not None
    made = next(result for result in toy.store.results.values() if result.outputs["out"] == "b3:fit1")
    toy.store.results[key] = replace(made, key=key)
    assert CACHED == decided(toy.plan())


def test_other_bytes_go_on(toy: Toy) -> None:
    """A rerun that yields other bytes makes what follows run, with both digests."""
    toy.run()
    toy.edit("fit", rate=0.05)
    key = toy.plan().stages["fit"].key
    assert key is not None
    made = next(result for result in toy.store.results.values() if result.outputs["out"] == "b3:fit1")
    toy.store.results[key] = replace(made, key=key, outputs={"out": "b3:fit2"})
    changed = Reason(ReasonCode.INPUT_CHANGED, "source", "b3:fit1", "b3:fit2")
    assert {"split": ("cached", []), "fit": ("cached", []), "score": ("run", [changed])} == decided(
        toy.plan()
    )


def test_values_that_do_not_invalidate(toy: Toy) -> None:
    """Numeric and runtime values are compared with those of the result that is used, and rerun nothing."""
    toy.run()
    toy.edit("fit", buckets=8, every=9, description="words")
    plan = toy.plan()
    assert CACHED == decided(plan)
    assert (Difference("params.buckets", 4, 8), Difference("params.every", 7, 9)) == plan.stages[
        "fit"
    ].differences
    assert () == plan.stages["score"].differences


def test_values_of_an_older_result(toy: Toy) -> None:
    """What differs is told against the result that is used, not against the last one."""
    toy.run()
    toy.edit("fit", rate=0.05, buckets=8)
    toy.run("2")
    toy.edit("fit", rate=0.1)
    assert (Difference("params.buckets", 4, 8),) == toy.plan().stages["fit"].differences


def test_the_type_of_a_value_counts(toy: Toy) -> None:
    """`1` and `true` are other keys, so the plan does not take them for the same."""
    toy.edit("fit", rate=1)
    toy.run()
    toy.edit("fit", rate=True)
    assert ("run", [Reason(ReasonCode.PARAMETER_CHANGED, "rate", 1, True)]) == decided(toy.plan())["fit"]


def test_the_sign_of_a_zero_counts(toy: Toy) -> None:
    """What has two encodings has two keys, and the plan names it instead of a result that got lost."""
    toy.edit("fit", rate=0.0)
    toy.run()
    toy.edit("fit", rate=-0.0)
    (reason,) = toy.plan().stages["fit"].reasons
    assert ("parameter_changed", "rate", "0.0", "-0.0") == (
        str(reason.code), reason.path, str(reason.before), str(reason.after),
    )  # fmt: skip


def test_a_patch_of_a_library_is_recorded_only(toy: Toy) -> None:
    """2.13.0 → 2.13.1 is told; 2.13 → 2.14 is another key."""
    toy.run()
    toy.installed["torch"] = "2.13.1"
    plan = toy.plan()
    assert CACHED == decided(plan)
    assert (Difference("libraries.torch", "2.13.0", "2.13.1"),) == plan.stages["fit"].differences
    toy.installed["torch"] = "2.14.0"
    reason = Reason(ReasonCode.LIBRARY_CHANGED, "torch", "2.13", "2.14")
    assert ("run", [reason]) == decided(toy.plan())["fit"]


@pytest.mark.parametrize(
    ("parts", "reason"),
    [
        (
            {"code": {"fit/main.py": "b3:22"}},
            Reason(ReasonCode.CODE_CHANGED, "fit/main.py", "b3:11", "b3:22"),
        ),
        (
            {"code": {"fit/main.py": "b3:11", "new.py": "b3:1"}},
            Reason(ReasonCode.CODE_CHANGED, "new.py", None, "b3:1"),
        ),
        ({"abi": 2}, Reason(ReasonCode.ABI_CHANGED, "", 1, 2)),
        ({"name": "fitted"}, Reason(ReasonCode.KIND_CHANGED, "", "fit", "fitted")),
        (
            {"module": "other.main"},
            Reason(
                ReasonCode.COMMAND_CHANGED,
                "",
                ["<launch.python>", "-m", "fit.main", "--config", "<config>"],
                ["<launch.python>", "-m", "other.main", "--config", "<config>"],
            ),
        ),
    ],
    ids=lambda value: str(value.code) if isinstance(value, Reason) else "",
)
def test_changes_outside_of_the_spec(parts: dict[str, Any], reason: Reason, toy: Toy) -> None:
    """Code, command and the kind itself are reasons of their own."""
    toy.run()
    loaded = toy.actions["fit"].loaded
    if "code" in parts:
        toy.change("fit", **parts)
    elif "module" in parts:
        toy.change("fit", loaded=replace(loaded, **parts))
    else:
        toy.change("fit", loaded=replace(loaded, kind=replace(loaded.kind, **parts)))
    assert ("run", [reason]) == decided(toy.plan())["fit"]


def test_a_source_that_changed(toy: Toy) -> None:
    """The reason names the input and both digests."""
    toy.run()
    toy.change("split", inputs={"source": ResolvedSource("path:rows.jsonl", "b3:more")})
    reason = Reason(ReasonCode.INPUT_CHANGED, "source", "b3:rows", "b3:more")
    assert ("run", [reason]) == decided(toy.plan())["split"]


def test_settings_of_another_stage(toy: Toy) -> None:
    """A setting that a stage reads from upstream is told apart from its own; no other concerns it."""
    loaded = toy.actions["score"].loaded
    kind = replace(loaded.kind, reads_settings={"source": ("rate",)})
    toy.change("score", loaded=replace(loaded, kind=kind), settings={"source": toy.actions["fit"]})
    toy.run()
    toy.edit("fit", seed=7)
    toy.change("score", settings={"source": toy.actions["fit"]})
    assert ("undecided", [waits_for("fit")]) == decided(toy.plan())["score"]
    toy.edit("fit", rate=0.2)
    toy.change("score", settings={"source": toy.actions["fit"]})
    reason = Reason(ReasonCode.SETTING_CHANGED, "source.rate", 0.1, 0.2)
    assert ("run", [reason, waits_for("fit")]) == decided(toy.plan())["score"]


def test_a_machine_without_the_libraries(toy: Toy) -> None:
    """A laptop cannot know the key of what ran elsewhere, and says so; it does see edits."""
    toy.run()
    toy.installed.clear()
    missing = Reason(ReasonCode.LIBRARY_MISSING, "torch")
    assert ("undecided", [missing]) == decided(toy.plan())["fit"]
    toy.edit("fit", rate=0.2)
    changed = Reason(ReasonCode.PARAMETER_CHANGED, "rate", 0.1, 0.2)
    assert ("run", [changed, missing]) == decided(toy.plan())["fit"]


def test_a_source_that_is_not_known_here(toy: Toy) -> None:
    """Without the hub a pipeline that never ran is still planned; one that ran is undecided."""
    known = toy.actions["split"].inputs
    unknown = {"source": ResolvedSource("hub:o/d", None, unresolved="pin it")}
    reason = Reason(ReasonCode.SOURCE_UNRESOLVED, "source", after="pin it")
    toy.change("split", inputs=unknown)
    assert ("run", [NEVER, reason]) == decided(toy.plan())["split"]
    toy.change("split", inputs=known)
    toy.run()
    toy.change("split", inputs=unknown)
    assert ("undecided", [reason]) == decided(toy.plan())["split"]


def test_a_checkpoint_under_the_same_key(toy: Toy) -> None:
    """A stage that was interrupted goes on where it stopped; a checkpoint of another key is not used."""
    toy.run()
    toy.edit("fit", rate=0.05)
    key = toy.plan().stages["fit"].key
    assert key is not None
    toy.store.checkpoints[key] = (120, 200)
    fit = toy.plan().stages["fit"]
    reasons = (Reason(ReasonCode.PARAMETER_CHANGED, "rate", 0.1, 0.05),)
    assert (Verdict.RESUME, (120, 200), reasons) == (fit.verdict, fit.checkpoint, fit.reasons)
    toy.edit("fit", rate=0.07)
    assert Verdict.RUN is toy.plan().stages["fit"].verdict


def test_a_kind_that_leaves_no_checkpoints(toy: Toy) -> None:
    """Where a kind is not resumable nothing is resumed, whatever lies in its folder."""
    key = toy.plan().stages["split"].key
    assert key is not None
    toy.store.checkpoints[key] = (1, 2)
    assert Verdict.RUN is toy.plan().stages["split"].verdict


def test_a_result_that_got_lost(toy: Toy) -> None:
    """A damaged store is a miss with a reason, and what follows waits."""
    toy.run()
    del toy.store.results[toy.store.last["toy/fit"]]
    assert {
        "split": ("cached", []),
        "fit": ("run", [Reason(ReasonCode.RESULT_MISSING)]),
        "score": ("undecided", [waits_for("fit")]),
    } == decided(toy.plan())


def test_a_kind_that_has_got_an_output(toy: Toy) -> None:
    """A result from before cannot give it, so the stage runs, and who reads it does not wait for ever."""
    toy.run()
    loaded = toy.actions["fit"].loaded
    kind = replace(loaded.kind, outputs={**loaded.kind.outputs, "report": "data"})
    toy.change("fit", loaded=replace(loaded, kind=kind))
    fit = toy.plan().stages["fit"]
    assert ("run", [Reason(ReasonCode.OUTPUT_MISSING, "report")]) == decided(toy.plan())["fit"]
    result = toy.store.results[fit.key or ""]
    toy.store.results[result.key] = replace(result, outputs={**result.outputs, "report": "b3:1"})
    assert CACHED == decided(toy.plan())


@pytest.mark.parametrize("kept", [None, {}])
def test_a_record_that_got_lost(kept: dict[str, Any] | None, toy: Toy) -> None:
    """Without the old key document there is nothing to compare with, and the plan says so."""
    toy.run()
    last = toy.store.last["toy/fit"]
    del toy.store.kept[last]
    if kept is not None:
        toy.store.kept[last] = kept
    assert CACHED == decided(toy.plan())
    toy.edit("fit", rate=0.2)
    assert ("run", [Reason(ReasonCode.RECORD_MISSING)]) == decided(toy.plan())["fit"]


def test_force(toy: Toy) -> None:
    """A forced stage runs although it is cached; what follows depends on what comes out."""
    toy.run()
    assert {
        "split": ("cached", []),
        "fit": ("run", [Reason(ReasonCode.FORCED)]),
        "score": ("undecided", [waits_for("fit")]),
    } == decided(toy.plan("fit"))


def test_a_result_of_another_pipeline_counts(toy: Toy) -> None:
    """Keys know no names: a stage that never ran here is cached when its content did elsewhere."""
    toy.run()
    toy.store.last.clear()
    assert CACHED == decided(toy.plan())


def test_planning_looks_up_each_key_once(toy: Toy) -> None:
    """A plan asks the store for what it needs and for nothing else."""
    toy.run()
    toy.store.asked.clear()
    plan = toy.plan()
    assert [stage.key for stage in plan.stages.values()] == toy.store.asked


def test_force_of_what_was_begun(toy: Toy) -> None:
    """A forced stage goes on from the checkpoint that an interrupted run of it has left, as a run does."""
    toy.run()
    key = toy.store.last["toy/fit"]
    toy.store.checkpoints[key] = (10, 20)
    planned = toy.plan("fit").stages["fit"]
    assert (Verdict.RESUME, (10, 20), key) == (planned.verdict, planned.checkpoint, planned.key)
    assert (Reason(ReasonCode.FORCED),) == planned.reasons
