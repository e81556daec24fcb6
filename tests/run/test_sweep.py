"""A sweep: what runs, what is shared, and the table at its end."""

from __future__ import annotations

import json
import re

import pytest
from workshop import KINDS, Bench

from rlhfc.cli.main import main

SPEC = f"""schema: 1
kinds: [{KINDS}]
matrix:
  kl: [1, 2]
  lr: [10, 20]
  exclude: [{{kl: 2, lr: 20}}]
stages:
  base: {{kind: toy, value: 5}}
  ppo: {{kind: toy, left: base.thing, value: "${{matrix.kl}}"}}
  eval: {{kind: toy, left: ppo.thing, value: "${{matrix.lr}}"}}
  pick: {{kind: toy, left: "eval@kl=1,lr=10.thing"}}
"""


@pytest.fixture
def sweep(bench: Bench, monkeypatch) -> Bench:
    """A sweep over two axes with one choice left out."""
    monkeypatch.setenv("TOY_TRACE", str(bench.trace_file))
    bench.spec.write_text(SPEC)
    return bench


def rlhfc(bench: Bench, command: str, *options: str) -> int:
    """One command on the bench's spec and store."""
    return main([command, str(bench.spec), *options, "--store", str(bench.folder / "store")])


def starts(bench: Bench) -> list[str]:
    """Stages that were launched since the last look."""
    found = [line.split()[0] for line in bench.trace() if line.endswith("starts")]
    bench.trace_file.unlink(missing_ok=True)
    return sorted(found)


def test_forced_variants_that_come_to_the_same_are_made_once(sweep):
    """The axis reaches runtime settings only: `--force` makes their one result anew, once."""
    same = SPEC.replace('value: "${matrix.kl}"', 'step_seconds: "${matrix.kl}"').replace("[1, 2]", "[0, 0.1]")
    sweep.spec.write_text(same.replace("kl: 2, lr", "kl: 0.1, lr").replace("kl=1", "kl=0"))
    assert 0 == rlhfc(sweep, "run", "--quiet")
    started = [name.partition("@")[0] for name in starts(sweep)]
    assert ["base", "eval", "eval", "pick", "ppo"] == started, "whichever variant came first"
    assert 0 == rlhfc(sweep, "run", "--quiet", "--force", "ppo")
    assert ["ppo"] == [name.partition("@")[0] for name in starts(sweep)]


def test_twenty_variants_share_what_is_upstream(sweep):
    """A sweep of twenty launches the stage that they all read from once, and the next run nothing."""
    sweep.spec.write_text(f"""schema: 1
kinds: [{KINDS}]
matrix: {{kl: [1, 2, 3, 4, 5], lr: [10, 20, 30, 40]}}
stages:
  sft: {{kind: toy, value: 5}}
  ppo: {{kind: toy, left: sft.thing, value: "${{matrix.kl}}", seed: "${{matrix.lr}}"}}
""")
    assert 0 == rlhfc(sweep, "run", "--quiet")
    assert ["ppo"] * 20 + ["sft"] == [name.partition("@")[0] for name in starts(sweep)]
    assert 0 == rlhfc(sweep, "run", "--quiet")
    assert [] == starts(sweep)


def test_sweep_ends_in_a_table(sweep, capsys):
    """Axes, state and figures of the variants that no other variant reads; what is upstream ran once."""
    assert 0 == rlhfc(sweep, "run", "--quiet")
    table = capsys.readouterr().out.split("\n\n")[1]
    assert (
        """eval: 3 variants
kl  lr  state  value
1   10  done   10
1   20  done   20
2   10  done   10"""
        == table
    )
    assert [
        "base", "eval@kl=1,lr=10", "eval@kl=1,lr=20", "eval@kl=2,lr=10", "pick", "ppo@kl=1", "ppo@kl=2"
    ] == starts(sweep)  # fmt: skip


@pytest.mark.parametrize(
    ("part", "tables"),
    [
        (("--until", "base"), []),
        (("--until", "ppo"), [("ppo", ["ppo@kl=1", "ppo@kl=2"])]),
        (("--target", "eval@kl=1,lr=20"), [("eval", ["eval@kl=1,lr=20"])]),
    ],
)
def test_part_of_a_sweep_is_told_too(sweep, capsys, part, tables):
    """Of a run that was asked for a part the variants that it came to are compared, in text and in JSON."""
    assert 0 == rlhfc(sweep, "run", "--quiet", *part)
    headings = [f"{stage}: {len(names)} variant" for stage, names in tables]
    told = [line for line in capsys.readouterr().out.splitlines() if " variant" in line]
    assert headings == [line.removesuffix("s") for line in told]
    assert 0 == rlhfc(sweep, "run", "--quiet", "--json", *part)
    found = json.loads(capsys.readouterr().out)["sweeps"]
    assert tables == [(each["stage"], [one["stage"] for one in each["variants"]]) for each in found]


def test_report_has_the_table(sweep):
    """The report shows the same table."""
    assert 0 == rlhfc(sweep, "run", "--quiet")
    page = (sweep.folder / "store" / "reports" / "toys.html").read_text()
    section = page.partition("<h2>Variants <small>of eval</small></h2>")[2].partition("</section>")[0]
    rows = [re.findall(r"<t[hd]>(.*?)</t[hd]>", row) for row in section.split("<tr>")[1:]]
    assert [
        ["kl", "lr", "state", "value"],
        ["1", "10", "done", "10"],
        ["1", "20", "done", "20"],
        ["2", "10", "done", "10"],
    ] == rows


def test_sweep_as_json(sweep, capsys):
    """The same as plain values."""
    assert 0 == rlhfc(sweep, "run", "--quiet", "--json")
    assert [
        {
            "stage": "eval",
            "axes": ["kl", "lr"],
            "variants": [
                {
                    "stage": f"eval@kl={kl},lr={lr}",
                    "values": {"kl": kl, "lr": lr},
                    "state": "done",
                    "summary": {"value": lr},
                }
                for kl, lr in ((1, 10), (1, 20), (2, 10))
            ],
        }
    ] == json.loads(capsys.readouterr().out)["sweeps"]


def test_one_name_forces_all_variants(sweep, capsys):
    """`--force ppo` means every variant of it, `--force ppo@kl=1` that one."""
    rlhfc(sweep, "run", "--quiet")
    starts(sweep)
    rlhfc(sweep, "run", "--quiet", "--force", "ppo")
    assert ["ppo@kl=1", "ppo@kl=2"] == starts(sweep)
    rlhfc(sweep, "run", "--quiet", "--force", "ppo@kl=1")
    assert ["ppo@kl=1"] == starts(sweep)
    capsys.readouterr()
    rlhfc(sweep, "plan", "--json", "--force", "ppo", "--show", "ppo")
    stages = json.loads(capsys.readouterr().out)["stages"]
    verdicts = {stage["stage"]: stage["verdict"] for stage in stages if stage["verdict"] != "cached"}
    assert ["ppo@kl=1", "ppo@kl=2"] == [name for name, verdict in verdicts.items() if verdict == "run"]
    assert [("ppo@kl=1", {"kl": 1}), ("ppo@kl=2", {"kl": 2})] == [
        (stage["stage"], stage["variant"]) for stage in stages if "rendered" in stage
    ]


def test_one_more_value_runs_one_more_variant(sweep):
    """What another value of an axis adds is all that runs; a variant's content decides, not its name."""
    rlhfc(sweep, "run", "--quiet")
    starts(sweep)
    rlhfc(sweep, "run", "--quiet", "--set", "ppo.value=1", "--set", "pick.left=base.thing")
    assert ["pick"] == starts(sweep), "`ppo` is one stage now, with the content of the first variant"
    rlhfc(sweep, "run", "--quiet", "--set", "matrix.kl=[2, 1, 3]")
    assert ["eval@kl=3,lr=10", "eval@kl=3,lr=20", "ppo@kl=3"] == starts(sweep)


def test_show_needs_one_variant(sweep, capsys):
    """`show` takes the full name; for the name of all it says how to name one."""
    assert 0 == rlhfc(sweep, "show", "ppo@kl=1")
    assert ["stage     ppo@kl=1 (toy)", "state     run"] == capsys.readouterr().out.splitlines()[:2]
    assert 1 == rlhfc(sweep, "show", "ppo")
    assert (
        "error: `show ppo` names 2 variants\nhint: name one of them, for example `ppo@kl=1`\n"
        == capsys.readouterr().err
    )
    assert 1 == rlhfc(sweep, "show", "ppp")
    assert "error: `show ppp` names no stage\nhint: did you mean `ppo`?\n" == capsys.readouterr().err
