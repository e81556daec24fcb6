"""Saved plans: written, read back, and refused when something that matters has changed."""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import pytest
from toy import SPEC, Toy

from rlhfc.cli.main import main
from rlhfc.compile.action import ResolvedSource, UpstreamOutput
from rlhfc.errors import UserError
from rlhfc.kind import StageParams
from rlhfc.plan.saved import SavedPlan, check_fresh, decode, encode, saved_stages

MADE = "2026-03-04T10:02:59.123+00:00"
COMMAND = "rlhfc plan toy.yaml -o p.plan"
HINT = f"hint: look at what would run now, and save that: `{COMMAND}`"


def saved(toy: Toy, *forced: str) -> SavedPlan:
    """The plan of now as a file gives it back."""
    plan = SavedPlan(MADE, COMMAND, {"spec": "toy.yaml"}, {}, saved_stages(toy.plan(*forced)))
    return decode(encode(plan), "p.plan")


def stale(toy: Toy, then: SavedPlan, *forced: str) -> list[str]:
    """What `rlhfc run` says against a saved plan; nothing when it holds."""
    try:
        check_fresh(then, toy.plan(*forced))
    except UserError as error:
        first, *changes, last = str(error).splitlines()
        assert ("error: saved plan is stale: since 2026-03-04 10:02 UTC", HINT) == (first, last)
        return changes
    return []


def new_rows(toy: Toy) -> None:
    """Other bytes in the file."""
    toy.change("split", inputs={"source": ResolvedSource("path:rows.jsonl", "b3:other")})


def other_file(toy: Toy) -> None:
    """The same stage reads another file."""
    toy.change("split", inputs={"source": ResolvedSource("path:more.jsonl", "b3:other")})


def lose_a_result(toy: Toy) -> None:
    """The store has lost what `split` made."""
    del toy.store.results[toy.store.last["toy/split"]]


CHANGES: dict[str, tuple[Callable[[Toy], object], list[str]]] = {
    "nothing": (lambda toy: None, []),
    "a source": (
        new_rows,
        [
            "  split  `rows.jsonl` changed: input source b3:rows → b3:other",
        ],
    ),
    "another source": (
        other_file,
        [
            "  split  input source path:rows.jsonl → path:more.jsonl",
        ],
    ),
    "a parameter": (lambda toy: toy.edit("fit", rate=0.3), ["  fit  rate 0.05 → 0.3"]),
    "back again": (
        lambda toy: toy.edit("fit", rate=0.1),
        ["  fit  rate 0.05 → 0.1"],
    ),
    "a numeric value of what runs": (lambda toy: toy.edit("fit", buckets=8), ["  fit  buckets 4 → 8"]),
    "a numeric value of what is cached": (lambda toy: toy.edit("split", buckets=8), []),
    "code": (
        lambda toy: toy.change("score", code={"score/main.py": "b3:12"}),
        ["  score  code of `score/main.py` changed"],
    ),
    "a library": (
        lambda toy: toy.installed.update(torch="2.14.1"),
        ["  fit  torch 2.13 → 2.14", "  fit  torch 2.13.0 → 2.14.1"],
    ),
    "a library is gone": (
        lambda toy: toy.installed.clear(),
        ["  fit  torch 2.13 → none"],
    ),
    "a lost result": (
        lose_a_result,
        [
            "  split  cached → run: its result is no longer whole in the store",
        ],
    ),
    "a new stage": (
        lambda toy: toy.actions.update(again=replace(toy.actions["score"], stage="again")),
        ["  again  is new"],
    ),
    "a stage is gone": (lambda toy: toy.actions.pop("score"), ["  score  is gone"]),
    "the plan's own progress": (lambda toy: toy.run("2"), []),
    "half of it": (
        lambda toy: toy.store.checkpoints.update({toy.plan().stages["fit"].key or "": (10, 20)}),
        [],
    ),
}


@pytest.mark.parametrize("what", CHANGES)
def test_what_makes_a_saved_plan_stale(what: str, toy: Toy) -> None:
    """Whatever changes a key or a cached stage, in words; not the results of the plan itself."""
    change, expected = CHANGES[what]
    toy.run()
    toy.edit("fit", rate=0.05)
    then = saved(toy)
    change(toy)
    assert expected == stale(toy, then)


def test_a_forced_stage(toy: Toy) -> None:
    """A plan that forces a stage holds until it is carried out, and after."""
    toy.run()
    then = saved(toy, "fit")
    assert [] == stale(toy, then, "fit")
    new_rows(toy)
    assert [
        "  split  `rows.jsonl` changed: input source b3:rows → b3:other",
    ] == stale(toy, then, "fit")


@pytest.mark.parametrize(
    ("data", "message"),
    [
        (b'{"saved_plan": 1, "made": "20', "the saved plan `p.plan` is not whole"),
        (b'{"saved_plan": 1, "made": "2026"}', "the saved plan `p.plan` is not what was saved"),
        (b'{"saved_plan": 2}', "the saved plan `p.plan` has format 2; this rlhfc reads format 1"),
    ],
)
def test_a_file_that_cannot_be_used(data: bytes, message: str) -> None:
    """A saved plan that is damaged, edited, or of another format is refused with the way out."""
    with pytest.raises(UserError) as refused:
        decode(data, "p.plan")
    expected = f"error: {message}\nhint: make it again: `rlhfc plan SPEC -o p.plan`"
    assert expected == str(refused.value)


def test_the_file(spec: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """It holds the options and the very document that `--json` prints, and may be written again."""
    options = ["--set", "first.rate=0.5", "--target", "first", "--store", "kept"]
    for _ in range(2):
        assert 2 == main(["plan", "toy.yaml", *options, "-o", "p.plan", "--json", "--detailed-exitcode"])
    out, err = capsys.readouterr()
    assert "saved: `rlhfc run p.plan` carries it out while it holds\n" * 2 == err
    written = json.loads(Path("p.plan").read_text())
    assert json.loads(out[: len(out) // 2]) == written["plan"]
    assert {
        "spec": "toy.yaml",
        "store": "kept",
        "overlays": [],
        "mirror": [],
        "overrides": ["first.rate=0.5"],
        "target": ["first"],
        "start": [],
        "until": [],
        "force": [],
        "thaw": [],
    } == written["options"]
    assert ["first"] == list(written["stages"])


def test_a_saved_plan_is_no_spec(spec: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """Commands that want a spec say what they were given."""
    main(["plan", "toy.yaml", "-o", "p.plan"])
    capsys.readouterr()
    assert 1 == main(["plan", "p.plan"])
    assert (
        "error: `p.plan` is a saved plan, and no spec\n"
        "hint: carry it out with `rlhfc run p.plan`, or name the spec that it was made from\n"
    ) == capsys.readouterr().err


def test_nothing_else_is_overwritten(spec: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """A file that is no saved plan stays as it is, the spec first of all."""
    assert 1 == main(["plan", "toy.yaml", "-o", "toy.yaml"])
    expected = "error: `toy.yaml` is there, and is no saved plan\nhint: name another file with `-o`\n"
    assert (expected, SPEC) == (capsys.readouterr().err, spec.read_text())
    assert 1 == main(["plan", "toy.yaml", "-o", "no/such/p.plan"])
    expected = "error: cannot write `no/such/p.plan`: No such file or directory\n"
    assert expected == capsys.readouterr().err


def test_a_stale_plan_is_refused_before_anything_else(spec: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """`rlhfc run FILE` knows the file by what is in it, and plans with the options that it holds."""
    main(["plan", "toy.yaml", "--set", "first.rate=0.5", "--until", "first", "-o", "my saved.yaml"])
    Path("rows.jsonl").write_text('{"more": 1}\n')
    capsys.readouterr()
    assert 1 == main(["run", "my saved.yaml"])
    out, err = capsys.readouterr()
    first, second, hint = err.splitlines()
    assert ("", "error: saved plan is stale: since ") == (out, first[:34])
    assert "  first  `rows.jsonl` changed: input source b3:" == second[:47]
    again = "rlhfc plan toy.yaml --set first.rate=0.5 --until first -o 'my saved.yaml'"
    assert f"hint: look at what would run now, and save that: `{again}`" == hint
    assert not Path(".rlhfc").exists()


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (
            ["--store", ".rlhfc"],
            "`--store .rlhfc` contradicts the saved plan, which was made with `--store s`",
        ),
        (
            ["--force", "first"],
            "`--force first` contradicts the saved plan, which was made without `--force`",
        ),
        (
            ["--set", "first.rate=2.5"],
            "`--set first.rate=2.5` contradicts the saved plan, which was made with `--set first.rate=0.5`",
        ),
    ],
)
def test_options_that_contradict(
    options: list[str], message: str, spec: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """Options of a saved plan stand; another one on the command line is refused, even a default."""
    main(["plan", "toy.yaml", "--set", "first.rate=0.5", "--store", "s", "-o", "p.plan"])
    capsys.readouterr()
    assert 1 == main(["run", "p.plan", *options])
    message = message.replace("|", "contradicts the saved plan, which was made")
    expected = f"error: {message}\nhint: leave the option out, or plan again with it\n"
    assert expected == capsys.readouterr().err


def test_options_that_agree(spec: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """The same option again contradicts nothing; what then stops this run is the library that is missing."""
    main(["plan", "toy.yaml", "--store", "s", "-o", "p.plan"])
    capsys.readouterr()
    assert 1 == main(["run", "p.plan", "--store", "s"])
    assert "first: `no-such-library` is not installed here" in capsys.readouterr().err


def test_another_wire_that_is_open(toy: Toy) -> None:
    """A stage that is to read from another stage is another plan, also while neither has run."""
    toy.actions["other"] = replace(toy.actions["split"], stage="other", params=seeded(toy))
    toy.actions = {name: toy.actions[name] for name in ("split", "other", "fit", "score")}
    then = saved(toy)
    toy.change("fit", inputs={"source": UpstreamOutput("other", "out")})
    assert ["  fit  input source split.out → other.out"] == stale(toy, then)


def seeded(toy: Toy) -> StageParams:
    """Parameters of `split` with another seed."""
    return toy.actions["split"].params.model_copy(update={"seed": 7})


def test_another_source_that_is_open(toy: Toy) -> None:
    """So is another source, also while the commits of both are not known."""
    toy.change("split", inputs={"source": hub("a/x")})
    then = saved(toy)
    toy.change("split", inputs={"source": hub("b/y")})
    assert ["  split  input source hub:a/x → hub:b/y"] == stale(toy, then)


def test_a_commit_that_comes_to_be_known(toy: Toy) -> None:
    """A run asks for the commits that a plan leaves open: knowing one is its own progress.

    A known one that is open again, or another one, is a change.
    """
    toy.change("split", inputs={"source": hub("a/x")})
    open_then = saved(toy)
    toy.change("split", inputs={"source": hub("a/x", "hub:12")})
    assert [] == stale(toy, open_then)
    known_then = saved(toy)
    toy.change("split", inputs={"source": hub("a/x", "hub:34")})
    assert ["  split  `hub:a/x` changed: input source hub:12 → hub:34"] == stale(toy, known_then)
    toy.change("split", inputs={"source": hub("a/x")})
    assert ["  split  `hub:a/x` changed: input source hub:12 → none"] == stale(toy, known_then)
    toy.change("split", inputs={"source": hub("b/y")})
    assert ["  split  input source hub:a/x → hub:b/y"] == stale(toy, known_then)


def hub(name: str, digest: str | None = None) -> ResolvedSource:
    """A source on the hub."""
    why = None if digest else "not known here"
    return ResolvedSource(f"hub:{name}", digest, hub=(name, "main"), unresolved=why)


def test_another_result_that_is_held(toy: Toy) -> None:
    """A stage that is pinned to another result makes another plan, whatever it would have run with."""
    toy.run()
    first = toy.store.last["toy/score"]
    toy.edit("score", rate=0.05)
    toy.run()
    toy.edit("score", pin=first)
    then = saved(toy)
    toy.edit("score", pin=(second := toy.store.last["toy/score"]))
    assert [f"  score  held result {first[:11]} → {second[:11]}"] == stale(toy, then)
