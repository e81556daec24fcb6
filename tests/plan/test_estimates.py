"""What a plan will take, told from earlier results."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pytest
from toy import Toy

from rlhfc.cli import plan as plan_command
from rlhfc.cli.main import main
from rlhfc.plan.document import PlanDocument, StageDocument
from rlhfc.plan.text import plan_lines
from rlhfc.store.store import Store

NOW = datetime(2026, 3, 4, 11, tzinfo=UTC)
HOURS = 3600.0
GIGABYTE = 10**9


def on_gpus(toy: Toy, ranks: Mapping[str, int]) -> None:
    """Put stages on this many GPUs each."""
    for stage, count in ranks.items():
        toy.change(stage, device="gpu")
        toy.edit(stage, ranks=count)


def took(toy: Toy, stage: str, **facts: Any) -> None:
    """Change what the store remembers of a stage's last result."""
    key = toy.store.last[f"toy/{stage}"]
    toy.store.results[key] = replace(toy.store.results[key], **facts)


def stages(document: PlanDocument) -> dict[str, StageDocument]:
    """The stages of a plan by name."""
    return {stage["stage"]: stage for stage in document["stages"]}


def lines(document: PlanDocument, free: int | None = None) -> list[str]:
    """The plan's text from its first stage on."""
    return plan_lines(document, NOW, free)[2:]


def test_gpu_hours(toy: Toy) -> None:
    """GPU-seconds are what they were; twice the GPUs take half the time."""
    on_gpus(toy, {"fit": 8})
    toy.run()
    took(toy, "fit", seconds=4.5 * HOURS, size=29 * GIGABYTE)
    on_gpus(toy, {"fit": 16})
    toy.edit("fit", rate=0.05)
    assert {
        "seconds": 2.25 * HOURS,
        "gpu_seconds": 36 * HOURS,
        "size": 29 * GIGABYTE,
        "basis": "stage",
        "source": "toy/fit",
    } == stages(toy.document())["fit"]["estimate"]
    assert [
        "  =  split  cached     3 d ago, took 4 min 10 s, 13.5 MB",
        "  ±  fit    run        rate 0.1 → 0.05                      [est 2 h 15 min · 36 GPU-h]",
        "  ?  score  undecided  after fit, if what it reads changes  [est 4 min 10 s]",
        "",
        "Plan: 1 to run, 1 undecided, 1 cached",
        "Estimate: at least 2 h 15 min wall · 36 GPU-h · +29.0 GB (61.0 GB free)",
        "With what is undecided: at least 2 h 19 min wall · 36 GPU-h · +29.0 GB (61.0 GB free)",
    ] == lines(toy.document(), 61 * GIGABYTE)


def test_a_disk_that_is_too_small(toy: Toy) -> None:
    """An exclamation mark stands where the outputs do not fit."""
    toy.run()
    toy.edit("score", rate=0.05)
    took(toy, "score", size=29 * GIGABYTE)
    expected = "Estimate: at least 4 min 10 s wall · +29.0 GB (! 28.0 GB free)"
    assert expected == lines(toy.document(), 28 * GIGABYTE)[-1]


def test_another_stage_of_the_kind(toy: Toy) -> None:
    """What never ran is told from the newest result of its kind, and says whose."""
    toy.run()
    score = toy.actions["score"]
    toy.actions["again"] = replace(score, stage="again")
    toy.edit("again", rate=0.7)
    assert "  +  again  run     never run  [est 4 min 10 s, as toy/score]" == lines(toy.document())[3]
    assert "kind" == stages(toy.document())["again"]["estimate"]["basis"]


@pytest.mark.parametrize("what", ["never made", "another device", "no record", "no key document"])
def test_what_tells_nothing(what: str, toy: Toy) -> None:
    """Without a result on the same device there is no estimate, and the sum says for what."""
    if what == "another device":
        on_gpus(toy, {"fit": 1})
    toy.run()
    key = toy.store.last["toy/fit"]
    toy.edit("fit", rate=0.05)
    toy.change("fit", device="cpu")
    if what == "never made":
        del toy.store.last["toy/fit"]
    elif what == "no record":
        del toy.store.results[key]
    elif what == "no key document":
        del toy.store.kept[key]
    document = toy.document()
    assert None is stages(document)["fit"]["estimate"]
    expected = {"seconds": 0.0, "gpu_seconds": 0.0, "size": 0, "unknown": ["fit"]}
    assert expected == document["estimate"]["certain"]
    assert "unknown for fit" == lines(document)[-1].partition("; ")[2]


def test_a_sum_of_the_unknown(toy: Toy) -> None:
    """Where nothing that runs for certain has an estimate, the line says that alone."""
    toy.run()
    toy.edit("fit", rate=0.05)
    del toy.store.last["toy/fit"]
    assert [
        "Estimate: unknown for fit",
        "With what is undecided: at least 4 min 10 s wall · +13.5 MB; unknown for fit",
    ] == lines(toy.document())[-2:]


def test_before_anything_has_run(toy: Toy) -> None:
    """Without any result the text says nothing of time."""
    assert "Plan: 3 to run" == lines(toy.document())[-1]
    assert ["split", "fit", "score"] == toy.document()["estimate"]["certain"]["unknown"]


def test_what_is_left_of_a_first_run(toy: Toy) -> None:
    """A stage that was interrupted before it ever ended is told from its own attempts."""
    on_gpus(toy, {"fit": 4})
    toy.run()
    key = toy.store.last.pop("toy/fit")
    toy.store.results.pop(key)
    toy.store.checkpoints[key], toy.store.spent[key] = (120, 200), 6 * HOURS
    on_gpus(toy, {"fit": 8})
    assert {
        "seconds": 2 * HOURS,
        "gpu_seconds": 16 * HOURS,
        "size": None,
        "basis": "attempts",
        "source": "toy/fit",
    } == stages(toy.document())["fit"]["estimate"]
    assert "Estimate: at least 2 h wall · 16 GPU-h" == lines(toy.document())[-2]


def test_the_longest_path(toy: Toy) -> None:
    """Stages that do not wait for each other run side by side: the sum of time is the longest path."""
    toy.actions["side"] = replace(toy.actions["score"], stage="side")
    toy.edit("side", rate=0.4)
    toy.run()
    for stage, seconds in {"split": 1.0, "fit": 20.0, "score": 300.0, "side": 4000.0}.items():
        took(toy, stage, seconds=seconds)
        toy.edit(stage, seed=7)
    assert 4021.0 == toy.document()["estimate"]["certain"]["seconds"]
    assert 4 * 13_500_000 == toy.document()["estimate"]["certain"]["size"]


@pytest.mark.parametrize(("gpus", "hours"), [(0, 2.0), (4, 2.0), (8, 6.0), (16, 3.0), (32, 2.0)])
def test_gpus_are_shared(gpus: int, hours: float, toy: Toy) -> None:
    """Three stages side by side take no less than their GPU-hours over the GPUs; too few say nothing."""
    for stage in ("left", "right"):
        toy.actions[stage] = replace(toy.actions["split"], stage=stage)
        toy.edit(stage, seed=len(stage))
    on_gpus(toy, {"split": 8, "left": 8, "right": 8})
    toy.run()
    for stage in ("split", "left", "right"):
        took(toy, stage, seconds=2 * HOURS)
        toy.edit(stage, rate=0.9)
    assert hours * HOURS == toy.document(gpus=gpus)["estimate"]["certain"]["seconds"]


def test_the_newest_result_counts(toy: Toy) -> None:
    """Of two results of a stage the newer one tells."""
    toy.run()
    toy.edit("score", rate=0.2)
    toy.run()
    took(toy, "score", seconds=77.0)
    toy.edit("score", rate=0.3)
    assert 77.0 == stages(toy.document())["score"]["estimate"]["seconds"]


def test_free_space_is_that_of_the_store(
    spec: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    """It is asked for when the plan is shown, where the store lies or will lie."""
    asked: list[tuple[Path, int | None]] = []
    free = plan_command._free
    monkeypatch.setattr(plan_command, "_free", lambda store: asked.append((store, free(store))))
    main(["plan", "toy.yaml", "--store", "a/b"])
    assert [Path("a/b")] == [store for store, _ in asked]
    assert 0 < (asked[0][1] or 0)


def test_what_the_store_tells(tmp_path: Path) -> None:
    """Results newest first; a record counts although its files are gone, and a lost one is no error."""
    store = Store.create(tmp_path / "store")
    for stage in ("a", "b"):
        store.ledger.append("published", pipeline="p", stage=stage, key=f"b3:{stage}")
    store.ledger.append("stage", pipeline="p", stage="a", key="b3:a")
    store.ledger.append("cached", pipeline="q", stage="a", key="b3:a")
    expected = [("q", "a", "b3:a"), ("p", "b", "b3:b"), ("p", "a", "b3:a")]
    assert expected == store.made()
    assert None is store.record("b3:aaaa")
