"""The plan as whole texts, as JSON, and in words."""

from __future__ import annotations

from dataclasses import replace
from datetime import UTC, datetime

import pytest
from toy import Toy

from rlhfc.compile.action import ResolvedSource
from rlhfc.compile.reasons import Reason, ReasonCode
from rlhfc.plan import quantities, words
from rlhfc.plan.rendering import rendered, rendered_lines
from rlhfc.plan.text import plan_lines

NOW = datetime(2026, 3, 4, 11, tzinfo=UTC)


def text(toy: Toy) -> str:
    """The plan as printed, framed by line breaks."""
    return "\n".join(["", *plan_lines(toy.document(), NOW), ""])


def test_before_the_first_run(toy: Toy) -> None:
    """Every stage is new; those behind others say after which."""
    assert """
toy · toy.yaml · store .rlhfc · no GPU here

  +  split  run  never run
  +  fit    run  never run (after split)
  +  score  run  never run (after fit)

Plan: 3 to run
""" == text(toy)


def test_after_a_run(toy: Toy) -> None:
    """Age, time and size of what is there; what differs without a rerun stands behind it."""
    toy.run()
    toy.edit("fit", every=50, buckets=8)
    assert """
toy · toy.yaml · store .rlhfc · no GPU here

  =  split  cached  3 d ago, took 4 min 10 s, 13.5 MB
  =  fit    cached  3 d ago, took 4 min 10 s, 13.5 MB; no rerun for buckets 4 → 8, every 7 → 50
  =  score  cached  3 d ago, took 4 min 10 s, 13.5 MB

Nothing to do: 3 stages cached
""" == text(toy)


def test_after_an_edit(toy: Toy) -> None:
    """Old and new value of what changed, and what is open until then."""
    toy.run()
    toy.edit("fit", rate=0.05, seed=7)
    assert """
toy · toy.yaml · store .rlhfc · no GPU here

  =  split  cached     3 d ago, took 4 min 10 s, 13.5 MB
  ±  fit    run        seed 1234 → 7; rate 0.1 → 0.05       [est 4 min 10 s]
  ?  score  undecided  after fit, if what it reads changes  [est 4 min 10 s]

Plan: 1 to run, 1 undecided, 1 cached
Estimate: at least 4 min 10 s wall · +13.5 MB
With what is undecided: at least 8 min 21 s wall · +27.0 MB
""" == text(toy)


def test_after_an_interruption(toy: Toy) -> None:
    """A stage that resumes tells where; the reason stays visible."""
    toy.run()
    toy.edit("fit", rate=0.05)
    toy.edit("score", rate=0.3)
    key = toy.plan().stages["fit"].key
    assert key is not None
    toy.store.checkpoints[key] = (120, 200)
    assert """
toy · toy.yaml · store .rlhfc · no GPU here

  =  split  cached  3 d ago, took 4 min 10 s, 13.5 MB
  ↻  fit    resume  at step 120 of 200; rate 0.1 → 0.05  [est 1 min 40 s]
  ±  score  run     rate 0.1 → 0.3 (after fit)           [est 4 min 10 s]

Plan: 1 to run, 1 to resume, 1 cached
Estimate: at least 5 min 51 s wall · +27.0 MB
""" == text(toy)


def test_on_a_laptop(toy: Toy) -> None:
    """What cannot be known here is told once, below the sum, with the way out."""
    toy.run()
    toy.installed.clear()
    unknown = "the newest commit of `o/d` is not known here: pin it"
    toy.change("split", inputs={"source": ResolvedSource("hub:o/d", None, unresolved=unknown)})
    assert """
toy · toy.yaml · store .rlhfc · no GPU here

  ?  split  undecided  its key cannot be known here                                  [est 4 min 10 s]
  ?  fit    undecided  after split, if what it reads changes; its key cannot be known here  [est 4 min 10 s]
  ?  score  undecided  after fit, if what it reads changes                           [est 4 min 10 s]

Plan: 3 undecided
With what is undecided: at least 12 min 31 s wall · +40.5 MB
hint: `torch` is not installed here: keys are known where the stages can run
hint: the newest commit of `o/d` is not known here: pin it
""" == text(toy)


def test_several_sources_that_are_not_known(toy: Toy) -> None:
    """One hint for all of them."""
    for stage, name in (("split", "o/d"), ("fit", "o/m")):
        source = ResolvedSource(f"hub:{name}", None, hub=(name, "main"), unresolved=f"{name}: pin it")
        toy.change(stage, inputs={"source": source})
    expected = (
        "hint: commits of `o/d`, `o/m` are not known here: "
        "pin them with `revision:` (40 hex digits) or use `--mirror`"
    )
    assert expected == text(toy).splitlines()[-1]


def test_many_reasons_are_cut(toy: Toy) -> None:
    """A line stays a line: three reasons and how many more; changed files of code count as one."""
    toy.run()
    toy.edit("fit", rate=0.5, seed=1)
    loaded = toy.actions["fit"].loaded
    kind = replace(loaded.kind, abi=2)
    toy.change(
        "fit", loaded=replace(loaded, kind=kind), code={"a.py": "b3:1", "b.py": "b3:2", "fit/main.py": "b3:3"}
    )
    line = text(toy).splitlines()[4].partition("  [est")[0]
    assert "  ±  fit    run        version of the kind 1 → 2; seed 1234 → 1; rate 0.1 → 0.5; 1 more" == line


def test_the_same_facts_as_json(toy: Toy) -> None:
    """Everything that the text says, for a stage of each verdict, under a version."""
    toy.run()
    toy.edit("fit", rate=0.05, every=9)
    document = toy.document()
    cached, run, undecided = (toy.plan().stages[name] for name in ("split", "fit", "score"))
    assert {
        "format_version": "1.0",
        "pipeline": "toy",
        "spec": "/specs/toy.yaml",
        "commit": None,
        "store": ".rlhfc",
        "gpus": 0,
        "remote": None,
        "changes": True,
        "summary": {
            "cached": 1,
            "restore": 0,
            "resume": 0,
            "run": 1,
            "undecided": 1,
            "frozen": 0,
            "skipped": 0,
        },
        "estimate": {
            "certain": {"seconds": 250.4, "gpu_seconds": 0.0, "size": 13_500_000, "unknown": []},
            "possible": {"seconds": 500.8, "gpu_seconds": 0.0, "size": 27_000_000, "unknown": []},
        },
        "hints": [],
        "warnings": [],
        "stages": [
            {
                "stage": "split",
                "kind": "split",
                "variant": {},
                "file": "toy.yaml",
                "line": 1,
                "verdict": "cached",
                "key": cached.key,
                "reasons": [],
                "ignored": [],
                "pinned": False,
                "differences": [],
                "accepted": None,
                "resume": None,
                "result": {
                    "finished": "2026-03-01T10:00:00+00:00",
                    "seconds": 250.4,
                    "size": 13_500_000,
                    "outputs": {"out": "b3:split1"},
                },
                "estimate": None,
            },
            {
                "stage": "fit",
                "kind": "fit",
                "variant": {},
                "file": "toy.yaml",
                "line": 1,
                "verdict": "run",
                "key": run.key,
                "reasons": [
                    {
                        "code": "parameter_changed",
                        "path": "rate",
                        "before": 0.1,
                        "after": 0.05,
                        "text": "rate 0.1 → 0.05",
                    }
                ],
                "ignored": [],
                "pinned": False,
                "differences": [{"path": "params.every", "before": 7, "after": 9}],
                "accepted": None,
                "resume": None,
                "result": None,
                "estimate": {
                    "seconds": 250.4,
                    "gpu_seconds": 0.0,
                    "size": 13_500_000,
                    "basis": "stage",
                    "source": "toy/fit",
                },
            },
            {
                "stage": "score",
                "kind": "score",
                "variant": {},
                "file": "toy.yaml",
                "line": 1,
                "verdict": "undecided",
                "key": undecided.key,
                "reasons": [
                    {
                        "code": "upstream_pending",
                        "path": "source",
                        "before": None,
                        "after": "fit.out",
                        "text": "input source waits for fit.out",
                    }
                ],
                "ignored": [],
                "pinned": False,
                "differences": [],
                "accepted": None,
                "resume": None,
                "result": None,
                "estimate": {
                    "seconds": 250.4,
                    "gpu_seconds": 0.0,
                    "size": 13_500_000,
                    "basis": "stage",
                    "source": "toy/score",
                },
            },
        ],
    } == document
    assert None is undecided.key


def test_codes_and_their_sentences() -> None:
    """The closed set of codes, each with its words: a code is a public name and never changes."""
    assert {
        "never_run": "never run",
        "kind_changed": "kind 1 → 2",
        "abi_changed": "version of the kind 1 → 2",
        "parameter_changed": "x 1 → 2",
        "setting_changed": "x 1 → 2",
        "engine_changed": "DeepSpeed config: x 1 → 2",
        "input_changed": "input x 1 → 2",
        "code_changed": "code of `x` changed",
        "library_changed": "x 1 → 2",
        "command_changed": "launch command changed",
        "upstream_pending": "input x waits for 2",
        "source_unresolved": "input x: 2",
        "library_missing": "`x` is not installed here",
        "result_missing": "its result is no longer whole in the store",
        "output_missing": "its result has no output `x` yet",
        "record_missing": "the store does not remember what its last result was made from",
        "forced": "forced",
    } == {str(code): words.sentence(Reason(code, _path(code), 1, 2)) for code in ReasonCode}


def _path(code: ReasonCode) -> str:
    return "" if code in (ReasonCode.KIND_CHANGED, ReasonCode.ABI_CHANGED) else "x"


@pytest.mark.parametrize(
    ("value", "expected"),
    [
        (None, "none"),
        (True, "true"),
        (1e-05, "1e-05"),
        ("text", "text"),
        (["q_proj"], '["q_proj"]'),
        ({"rank": 8}, '{"rank": 8}'),
        ("two\nlines", "two lines"),
        ("x" * 41, "x" * 39 + "…"),
        (f"b3:{'a' * 64}", "b3:aaaaaaaa"),
        (f"hub:{'a' * 40}", "hub:aaaaaaaa"),
    ],
)
def test_values(value: object, expected: str) -> None:
    """Values are short, in one line, and digests are cut to what people compare."""
    assert expected == quantities.value(value)


def test_values_that_differ_behind_the_cut() -> None:
    """Two long values that look the same when cut are not printed as if nothing had changed."""
    assert "template changed" == quantities.difference("params.template", "x" * 50, "x" * 51)


@pytest.mark.parametrize(
    ("seconds", "expected"),
    [
        (0.04, "0.0 s"),
        (0.5, "0.5 s"),
        (59.4, "59 s"),
        (60, "1 min"),
        (250, "4 min 10 s"),
        (3600, "1 h"),
        (16200, "4 h 30 min"),
        (90000, "1 d 1 h"),
    ],
)
def test_durations(seconds: float, expected: str) -> None:
    """Two units at most."""
    assert expected == quantities.duration(seconds)


@pytest.mark.parametrize(
    ("count", "expected"),
    [(0, "0 B"), (999, "999 B"), (1000, "1.0 kB"), (260_032, "260 kB"), (13_476_831_744, "13.5 GB")],
)
def test_sizes(count: int, expected: str) -> None:
    """Three digits at most."""
    assert expected == quantities.size(count)


@pytest.mark.parametrize(
    ("finished", "expected"),
    [
        ("2026-03-04T10:59:30Z", "just now"),
        ("2026-03-04T10:00:00", "1 h ago"),
        ("2026-03-04T10:48:00+00:00", "12 min ago"),
        ("2026-03-05T10:00:00+00:00", "just now"),
    ],
)
def test_ages(finished: str, expected: str) -> None:
    """One unit; a clock that went backwards is no age."""
    assert expected == quantities.ago(finished, NOW)


def test_what_a_launch_would_be(toy: Toy) -> None:
    """Command, resolved config and DeepSpeed configs are shown with what only the run decides in `<…>`."""
    fit = toy.actions["fit"]
    shown = rendered(fit, None)
    assert ["python", "-m", "fit.main", "--config", "<work>/attempts/001/config.json"] == shown["argv"]
    assert {"source": {"path": "<split.out>", "file": None}} == shown["config"]["inputs"]
    assert "<undecided>" == shown["config"]["action_key"]
    assert "b3:1" == rendered(fit, "b3:1")["config"]["action_key"]
    lines = list(rendered_lines("fit", shown))
    assert [
        "fit: command",
        f"  DS_ACCELERATOR=cpu HF_HUB_OFFLINE=1 OMP_NUM_THREADS=1 PYTHONHASHSEED=0 "
        f"PYTHONPATH={fit.loaded.python_path} TOKENIZERS_PARALLELISM=false "
        "TORCH_FORCE_WEIGHTS_ONLY_LOAD=1 "
        "python -m fit.main --config '<work>/attempts/001/config.json'",
        "fit: resolved config",
        "  {",
    ] == lines[:4]
    split = rendered(toy.actions["split"], None)
    assert {"path": "<path:rows.jsonl>", "file": None} == split["config"]["inputs"]["source"]
