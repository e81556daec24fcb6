"""When a result stands although something changed: frozen, pinned, ignored."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest
from test_plan_forms import text
from test_verdicts import CACHED, decided, waits_for
from toy import Toy

from rlhfc.compile.action import ResolvedSource
from rlhfc.compile.policy import LibraryPolicy
from rlhfc.compile.reasons import Reason, ReasonCode
from rlhfc.errors import Mark, UserError
from rlhfc.plan.compare import Difference
from rlhfc.plan.held import thaw
from rlhfc.plan.planner import Plan, make_plan

SEEDED = Reason(ReasonCode.PARAMETER_CHANGED, "seed", 1234, 7)
RATED = Reason(ReasonCode.PARAMETER_CHANGED, "rate", 0.1, 0.05)


def key_of(toy: Toy, stage: str) -> str:
    """Key of a stage's last result."""
    return toy.store.last[f"toy/{stage}"]


def refusal(toy: Toy, *forced: str) -> str:
    """What the plan is refused with."""
    with pytest.raises(UserError) as caught:
        toy.plan(*forced)
    return str(caught.value)


def thawed(toy: Toy, *stages: str) -> Plan:
    """The plan under ``--thaw``."""
    return make_plan(thaw(toy.pipeline(), stages), toy.store, toy.installed.get)


def test_a_frozen_stage(toy: Toy) -> None:
    """Its last result stands and is read from; the plan says although what changed."""
    toy.run()
    toy.edit("fit", frozen=True, rate=0.05)
    plan = toy.plan()
    assert CACHED | {"fit": ("frozen", [RATED])} == decided(plan)
    assert (True, key_of(toy, "fit")) == (plan.nothing_to_do, plan.stages["fit"].key)
    toy.edit("fit", rate=0.1)
    assert CACHED | {"fit": ("frozen", [])} == decided(toy.plan())


def test_a_frozen_stage_behind_one_that_runs(toy: Toy) -> None:
    """It stands whatever comes of it, so that what follows is decided."""
    toy.run()
    toy.edit("split", seed=7)
    toy.edit("fit", frozen=True)
    assert {
        "split": ("run", [SEEDED]),
        "fit": ("frozen", [waits_for("split")]),
        "score": ("cached", []),
    } == decided(toy.plan())


def test_frozen_stages_as_text(toy: Toy) -> None:
    """A sign of its own, and what does not move it."""
    toy.run()
    pin = key_of(toy, "score")
    toy.edit("split", seed=7)
    toy.edit("fit", frozen=True, rate=0.05, every=9)
    toy.edit("score", pin=pin[:11])
    assert f"""
toy · toy.yaml · store .rlhfc · no GPU here

  ±  split  run     seed 1234 → 7  [est 4 min 10 s]
  ❄  fit    frozen  3 d ago, took 4 min 10 s, 13.5 MB; stands although rate 0.1 → 0.05 and whatever comes \
of split; no rerun for every 7 → 9
  ❄  score  frozen  3 d ago, took 4 min 10 s, 13.5 MB; pinned to {pin[:11]}

Plan: 1 to run, 2 frozen
Estimate: at least 4 min 10 s wall · +13.5 MB
""" == text(toy)
    toy.edit("split", seed=1234)
    assert "Nothing to do: 1 stage cached, 2 frozen" == text(toy).splitlines()[-1]


def test_frozen_without_a_result(toy: Toy, tmp_path: Path) -> None:
    """There is nothing that could stand: an error, with its place and the way out, for every such stage."""
    toy.edit("fit", frozen=True)
    toy.edit("score", frozen=True)
    toy.change("fit", places={"frozen": Mark(tmp_path / "toy.yaml", 7, 5, 6, "    frozen: true")})
    toy.change("score", places={"frozen": Mark(tmp_path / "toy.yaml", 9, 5, 6, "    frozen: true")})
    blocks = [
        f"{tmp_path}/toy.yaml:{line}:5: "
        f"error: {stage}: it is frozen, and has no result in this pipeline yet\n"
        f"    {line} |     frozen: true\n"
        f"      |     ^^^^^^\n"
        f"hint: remove `frozen: true`, or let it run once with `--thaw {stage}`"
        for line, stage in ((7, "fit"), (9, "score"))
    ]
    assert "\n\n".join([*blocks, "2 errors"]) == refusal(toy)


def test_a_frozen_result_that_got_lost(toy: Toy) -> None:
    """Half a result cannot stand either."""
    toy.run()
    toy.edit("fit", frozen=True)
    key = key_of(toy, "fit")
    del toy.store.results[key]
    assert (
        f"error: fit: the result under `{key}` is not whole in the store\n"
        "hint: let it run again with `--thaw fit`"
    ) == refusal(toy)


def test_thaw(toy: Toy) -> None:
    """For once the stage is planned like any other."""
    toy.run()
    toy.edit("fit", frozen=True, rate=0.05)
    assert ("run", [RATED]) == decided(thawed(toy, "fit"))["fit"]
    with pytest.raises(UserError) as caught:
        thawed(toy, "fit", "score")
    assert (
        "error: `--thaw score`: the stage is not frozen\n"
        "hint: leave it out: what is neither frozen nor pinned runs when it has to"
    ) == str(caught.value)


def test_force_does_not_thaw(toy: Toy) -> None:
    """A stage that is frozen on purpose is not run by an option that was meant for others."""
    toy.run()
    toy.edit("fit", frozen=True)
    expected = "error: fit: it is frozen, and `--force` would run it\nhint: pass `--thaw fit` as well"
    assert expected == refusal(toy, "fit")


def test_a_pinned_stage(toy: Toy) -> None:
    """The result under the key stands, and what follows reads it, though a later one is there."""
    toy.run()
    first = key_of(toy, "fit")
    toy.edit("fit", rate=0.05)
    toy.run("2")
    second = key_of(toy, "fit")
    for pin in (first, first[:15]):
        toy.edit("fit", pin=pin)
        plan = toy.plan()
        assert CACHED | {"fit": ("frozen", [RATED])} == decided(plan)
        assert (first, True) == (plan.stages["fit"].key, plan.stages["fit"].pinned)
        result = plan.stages["score"].result
        assert result is not None
        assert {"out": "b3:score1"} == result.outputs
    toy.edit("fit", pin=second)
    assert CACHED | {"fit": ("frozen", [])} == decided(toy.plan())


def test_pins_that_lead_nowhere(toy: Toy) -> None:
    """A key without a result, a start of two keys, a result of another kind: each is told apart."""
    toy.edit("fit", pin="b3:00000000")
    assert (
        "error: fit: there is no result under `b3:00000000` in this store\nhint: remove `pin`"
    ) == refusal(toy)
    toy.edit("fit", pin=None)
    toy.run()
    toy.edit("fit", pin="b3:00000000")
    assert f"hint: its last result in this pipeline is `{key_of(toy, 'fit')}`" in refusal(toy)
    known = toy.store.results[key_of(toy, "fit")]
    twins = [f"b3:00000000{digit}{'0' * 55}" for digit in "12"]
    toy.store.results |= {key: replace(known, key=key) for key in twins}
    assert (
        "error: fit: `b3:00000000` is the start of 2 keys\n"
        f"hint: write more digits: `{twins[0]}`, `{twins[1]}`"
    ) == refusal(toy)
    toy.edit("fit", pin=twins[0])
    toy.store.results[twins[0]] = replace(known, key=twins[0], outputs={"rows": "b3:1"})
    assert (
        f"error: fit: the result under `{twins[0]}` has other outputs: `rows`\n"
        "hint: kind of this stage: `fit`"
    ) == refusal(toy)
    toy.edit("fit", pin=key_of(toy, "score"))
    assert (
        f"error: fit: the result under `{key_of(toy, 'score')}` is one of kind `score`\n"
        "hint: kind of this stage: `fit`"
    ) == refusal(toy)


@pytest.mark.parametrize("path", ["rate", "*"])
def test_a_change_that_is_ignored(path: str, toy: Toy) -> None:
    """The last result is used, and the plan tells what it ignores."""
    toy.run()
    toy.edit("fit", rate=0.05, ignore_changes=[path])
    plan = toy.plan()
    assert CACHED == decided(plan)
    assert ((RATED,), key_of(toy, "fit")) == (plan.stages["fit"].ignored, plan.stages["fit"].key)
    line = text(toy).splitlines()[4]
    assert "  =  fit    cached  3 d ago, took 4 min 10 s, 13.5 MB; ignores rate 0.1 → 0.05" == line


def test_a_change_beside_one_that_is_ignored(toy: Toy) -> None:
    """The stage runs for the other reason, and takes the new value along."""
    toy.run()
    toy.edit("fit", rate=0.05, seed=7, ignore_changes=["rate"])
    fit = toy.plan().stages["fit"]
    assert ("run", (SEEDED,), (RATED,)) == (str(fit.verdict), fit.reasons, fit.ignored)
    assert "  ±  fit    run        seed 1234 → 7; takes along rate 0.1 → 0.05" in text(toy)
    toy.run("2")
    assert 0.05 == toy.store.kept[key_of(toy, "fit")]["document"]["config"]["params"]["rate"]
    assert fit.key == key_of(toy, "fit")
    toy.edit("fit", rate=0.01)
    assert CACHED == decided(toy.plan())


def test_the_exact_result_comes_first(toy: Toy) -> None:
    """Where there is a result with the new value, nothing needs to be ignored."""
    toy.run()
    toy.edit("fit", rate=0.05)
    toy.run("2")
    toy.edit("fit", rate=0.1, ignore_changes=["rate"])
    fit = toy.plan().stages["fit"]
    assert ("b3:fit1", ()) == (fit.result and fit.result.outputs["out"], fit.ignored)


def test_an_input_that_is_ignored(toy: Toy) -> None:
    """What a source holds, or what comes of a stage that runs, moves nothing."""
    toy.edit("split", ignore_changes=["source"])
    toy.edit("fit", ignore_changes=["source"])
    toy.run()
    toy.change("split", inputs={"source": ResolvedSource("path:rows.jsonl", "b3:more")})
    plan = toy.plan()
    assert CACHED == decided(plan)
    assert (Reason(ReasonCode.INPUT_CHANGED, "source", "b3:rows", "b3:more"),) == plan.stages["split"].ignored
    toy.edit("split", seed=7)
    assert {"split": ("run", [SEEDED]), "fit": ("cached", []), "score": ("cached", [])} == decided(toy.plan())


def test_ignored_and_waiting(toy: Toy) -> None:
    """Behind a stage that runs, what is ignored does not make a rerun certain."""
    toy.run()
    toy.edit("split", seed=7)
    toy.edit("fit", rate=0.05, ignore_changes=["rate"])
    assert ("undecided", [waits_for("split")]) == decided(toy.plan())["fit"]
    toy.edit("fit", every=9, seed=7)
    assert ("run", [SEEDED, waits_for("split")]) == decided(toy.plan())["fit"]


def test_ignored_before_the_first_run(toy: Toy) -> None:
    """Without an earlier value there is nothing to ignore."""
    toy.edit("fit", ignore_changes=["rate"])
    assert ("run", [Reason(ReasonCode.NEVER_RUN), waits_for("split")]) == decided(toy.plan())["fit"]


def test_numeric_leaves_that_are_ignored(toy: Toy) -> None:
    """Under strict numerics one leaf can be let go, the device that `auto` came to among them."""
    toy.edit("fit", numerics="strict", ignore_changes=["device", "buckets"])
    toy.run()
    toy.change("fit", device="gpu")
    toy.edit("fit", buckets=8)
    plan = toy.plan()
    assert CACHED == decided(plan)
    assert (
        Reason(ReasonCode.PARAMETER_CHANGED, "device", "cpu", "gpu"),
        Reason(ReasonCode.PARAMETER_CHANGED, "buckets", 4, 8),
    ) == plan.stages["fit"].ignored
    toy.edit("fit", threads=2)
    threads = Reason(ReasonCode.PARAMETER_CHANGED, "threads", 1, 2)
    assert ("run", [threads]) == decided(toy.plan())["fit"]


def test_a_promoted_leaf_is_told_once(toy: Toy) -> None:
    """What is a reason is no difference that would rerun nothing."""
    toy.edit("fit", numerics="strict")
    toy.run()
    toy.edit("fit", buckets=8, every=9)
    fit = toy.plan().stages["fit"]
    assert (Reason(ReasonCode.PARAMETER_CHANGED, "buckets", 4, 8),) == fit.reasons
    assert (Difference("params.every", 7, 9),) == fit.differences


def test_a_library_that_is_let_go(toy: Toy) -> None:
    """`warn` after an upgrade brings the results back that it had made stale, and tells the versions."""
    toy.run()
    toy.installed["torch"] = "2.14.0"
    library = Reason(ReasonCode.LIBRARY_CHANGED, "torch", "2.13", "2.14")
    assert ("run", [library]) == decided(toy.plan())["fit"]
    toy.change("fit", libraries=LibraryPolicy(named={"torch": "warn"}))
    assert CACHED == decided(toy.plan())
    assert text(toy).splitlines()[4].endswith("13.5 MB; no rerun for torch 2.13.0 → 2.14.0")
    toy.change("fit", libraries=LibraryPolicy(named={"torch": "ignore"}))
    assert CACHED == decided(toy.plan())
    assert "torch" not in text(toy)


def test_what_holds_moves_no_key(toy: Toy) -> None:
    """Freezing, pinning and ignoring are no part of what a result is made from."""
    toy.run()
    keys = dict(toy.store.last)
    toy.edit("fit", frozen=True, pin=keys["toy/fit"], ignore_changes=["rate"])
    assert toy.actions["fit"].held
    plan = thawed(toy, "fit")
    assert CACHED == decided(plan)
    assert keys == {f"toy/{name}": stage.key for name, stage in plan.stages.items()}
