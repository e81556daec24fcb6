"""The report: geometry of its drawings, what it says, and that it is one whole page."""

import json
import re
from html.parser import HTMLParser
from pathlib import Path
from types import SimpleNamespace

import pytest

from rlhfc.compile.reasons import Reason, ReasonCode
from rlhfc.plan.planner import Plan, StagePlan, Verdict
from rlhfc.report import charts
from rlhfc.report.data import gather
from rlhfc.report.graph import BOX_WIDTH, GAP_X, draw
from rlhfc.report.write import render
from rlhfc.store.publish import Product
from rlhfc.store.store import Store

VOID = {"meta", "br", "circle", "line", "path", "polyline", "rect"}


class Pipes:
    """A pipeline of names: all that a report asks of one."""

    name = "letters <1>"
    spec = Path("letters.yaml")

    def __init__(self, upstream):
        self.above = upstream
        self.actions = {name: SimpleNamespace(variant={}) for name in upstream}

    def upstream(self, stage):
        """Name what a stage reads from."""
        return self.above[stage]


class Checker(HTMLParser):
    """Follows the tags: each that is opened is closed, in turn."""

    def __init__(self):
        super().__init__()
        self.open, self.links, self.texts = [], [], []

    def handle_starttag(self, tag, attrs):
        """Open a tag; note what would be fetched."""
        self.links += [value for name, value in attrs if name in ("src", "href", "srcset")]
        if tag not in VOID:
            self.open.append(tag)

    def handle_endtag(self, tag):
        """Close a tag."""
        if tag not in VOID:
            assert tag == self.open.pop()

    def handle_data(self, data):
        """Keep the text."""
        self.texts.append(data)


def key(n: int) -> str:
    """Make a key."""
    return f"b3:{n:064x}"


def publish(store, root, stage, number, files, metrics=(), summary=None):
    """Publish a result for a stage, as a plan finds it."""
    port = {"eval": "report"}.get(stage, "model")
    out = root / stage / "out" / port
    out.mkdir(parents=True)
    for name, text in files.items():
        (out / name).write_text(text)
    path = root / stage / "metrics.jsonl"
    path.write_text("".join(json.dumps(line) + "\n" for line in metrics))
    return store.publish(
        Product("r", Pipes.name, stage, key(number), {}, {port: out}, path, summary or {}, 65.0, 2)
    )


@pytest.fixture
def page(tmp_path):
    """A report of a pipeline with a result, an evaluation, a failure and a stage that waits."""
    store = Store.create(tmp_path / "store")
    record = {
        "confidence": 0.9,
        "win_rate": {
            "rule": {"win": 0.8, "low": 0.7, "high": 0.9, "wins": 8, "losses": 2, "ties": 0, "prompts": 10}
        },
        "metrics": {"kl_to_other": {"baseline": 1.25, "candidate": 2.5}},
    }
    sample = {"prompt": "<script>x</script>", "baseline": "a & b", "candidate": "c", "scores": {}}
    losses = [{"step": n, "total": 3, "phase": "train", "loss": 3.0 - n} for n in (1, 2, 3)]
    sft = publish(store, tmp_path, "sft", 1, {"m": "x"}, losses, {"eval_perplexity": 8.12345})
    files = {"evaluation.json": json.dumps(record), "samples.jsonl": json.dumps(sample) + "\n"}
    found = publish(store, tmp_path, "eval", 2, files)
    facts = {"run": "r", "pipeline": Pipes.name, "seconds": 1.0}
    store.ledger.append("stage", stage="sft", key=key(1), state="done", reasons=["never run"], **facts)
    store.ledger.append("stage", stage="dpo", key=key(3), state="failed", reasons=["never run"], **facts)
    pending = Reason(ReasonCode.UPSTREAM_PENDING, "model", after="dpo.model")
    stages = {
        "sft": StagePlan("sft", "sft", Verdict.CACHED, key(1), result=sft),
        "eval": StagePlan("eval", "evaluate", Verdict.CACHED, key(2), result=found),
        "dpo": StagePlan("dpo", "dpo", Verdict.RUN, key(3), (Reason(ReasonCode.NEVER_RUN),)),
        "last": StagePlan("last", "export", Verdict.UNDECIDED, None, (pending,)),
    }
    pipes = Pipes({"sft": (), "eval": ("sft",), "dpo": ("sft",), "last": ("dpo",)})
    return render(gather(Plan(pipes, stages), store, "2026-11-22 09:00 UTC"))


def test_page_is_whole_and_fetches_nothing(page):
    """Every tag is closed in turn, nothing is loaded from elsewhere, and no script is needed."""
    checker = Checker()
    checker.feed(page)
    assert ([], []) == (checker.open, checker.links)
    assert "<script" not in page
    assert re.findall(r"https?://|@import|url\((?!#)", page) == []


def test_page_forbids_scripts_and_the_network(page):
    """Whatever escaped us, the browser neither runs it nor asks anybody for anything."""
    policy = "default-src 'none'; style-src 'unsafe-inline'; base-uri 'none'; form-action 'none'"
    head = page[: page.index("<style>")]
    assert f'<meta http-equiv="Content-Security-Policy" content="{policy}">' in head


def test_text_is_escaped(page):
    """What models and users write comes out as text, never as markup."""
    assert "&lt;script&gt;x&lt;/script&gt;" in page
    assert "a &amp; b" in page
    assert "<h1>letters &lt;1&gt;</h1>" in page


def test_page_says_what_happened(page):
    """Win rate with interval, metrics, states, times, causes and keys are all there."""
    checker = Checker()
    checker.feed(page)
    text = " ".join(" ".join(checker.texts).split())
    for said in (
        "rule better than the baseline 80.0 % 70.0 to 90.0 %",
        "8 won, 2 lost, 0 tied, 10 prompts; interval at 90 %",
        "kl to other 1.25 2.5",
        "sft sft done 1 min 5 s 2 attempts 1 B eval perplexity 8.123 never run b3:000000000000",
        "dpo dpo failed never run",
        "last export waits input model waits for dpo.model",
        "Samples eval, the first 1 of 1",
    ):
        assert said in text


def test_curve_meets_its_axes():
    """The first point lies on the left edge, the last on the right; high values are high up."""
    drawn = charts.panel("loss", {"loss": [(0, 4.0), (50, 2.0), (100, 0.0)]})
    left, right = charts.LEFT, charts.WIDTH - charts.RIGHT
    top, bottom = charts.TOP, charts.HEIGHT - charts.BOTTOM
    middle = f"{(left + right) / 2:.1f},{(top + bottom) / 2:.1f}"
    assert f"{left:.1f},{top:.1f} {middle} {right:.1f},{bottom:.1f}" == drawn.lines[0].points
    assert ["0", "1", "2", "3", "4"] == [tick.label for tick in drawn.y_ticks]
    assert ("0", "") == (drawn.lines[0].last, drawn.lines[0].smooth)


def test_constant_curve_lies_in_the_middle():
    """A value that never changes is drawn, not divided by zero."""
    drawn = charts.panel("kl", {"kl": [(1, 0.0), (2, 0.0)]})
    assert {"88.0"} == {point.split(",")[1] for point in drawn.lines[0].points.split()}


@pytest.mark.parametrize(
    ("low", "high", "ticks"),
    [
        (0, 4, [0, 1, 2, 3, 4]),
        (0.31, 0.92, [0.2, 0.4, 0.6, 0.8, 1.0]),
        (-130, 240, [-200, -100, 0, 100, 200, 300]),
        (1e-5, 4e-5, [1e-5, 2e-5, 3e-5, 4e-5]),
    ],
)
def test_ticks_are_round_and_span_the_values(low, high, ticks):
    """Ticks are steps of 1, 2 or 5 times a power of ten around the values."""
    assert ticks == pytest.approx(charts.nice_ticks(low, high), abs=1e-12)


def test_panels_group_what_belongs_together():
    """Training and held-out loss share a chart, bounds are faint, samples and single points are left out."""
    lines = [
        {"step": n, "total": 2, "loss": 1.0, "eval_loss": 2.0, "eval_accuracy": 0.5, "eval_accuracy_low": 0.4}
        for n in (1, 2)
    ]
    lines += [{"step": 2, "phase": "sample", "score": 1.0, "response": "x"}, {"step": 2, "once": 3.0}]
    lines += [{"step": n, "phase": "train", "gradient_norm": 1.0, "loss": "nan"} for n in (1, 2)]
    main, more = charts.panels_of(charts.series_of(lines))
    found = [(panel.title, [(line.name, line.colour, line.bound) for line in panel.lines]) for panel in main]
    assert [
        ("loss", [("loss", 0, False), ("eval loss", 1, False)]),
        ("accuracy, held out", [("eval accuracy", 0, False), ("eval accuracy low", 0, True)]),
    ] == found
    assert ["gradient norm"] == [panel.title for panel in more]


def test_smoothing_has_no_lag():
    """A straight line stays itself under smoothing, ends included."""
    line = [(n, 2.0 * n) for n in range(100)]
    assert [y for _, y in line] == pytest.approx([y for _, y in charts.smoothed(line)])


@pytest.mark.parametrize(
    ("value", "text"),
    [(0.0, "0"), (1234.5, "1234"), (0.00001, "1e-5"), (-250000.0, "-2.5e5"), (0.05, "0.05")],
)
def test_numbers_are_short(value, text):
    """Axis labels have at most four digits."""
    assert text == charts.number(value)


def test_stages_lie_right_of_what_they_read():
    """Columns follow the longest way; an arrow that a longer way implies is left out."""
    upstream = {"a": (), "b": ("a",), "c": ("a",), "d": ("b", "a"), "e": ("d", "c")}
    kinds = dict.fromkeys(upstream, "k")
    graph = draw(upstream, kinds, dict.fromkeys(upstream, "done"))
    step = BOX_WIDTH + GAP_X
    assert {"a": 0, "b": 1, "c": 1, "d": 2, "e": 3} == {box.stage: (box.x - 4) // step for box in graph.boxes}
    assert 5 == len(graph.arrows)
    assert len({(box.x, box.y) for box in graph.boxes}) == len(graph.boxes)


def test_boxes_are_as_wide_as_their_names():
    """Variants, whose names are long, can be told apart; only a name beyond all bounds is cut off."""
    names = ["ppo@kl=0.02,lr=0.0002", "ppo@kl=0.02,lr=0.0005", f"ppo@template={'x' * 60}"]
    upstream = {"a": (), **dict.fromkeys(names, ("a",)), "z": (names[0],)}
    graph = draw(upstream, dict.fromkeys(upstream, "k"), dict.fromkeys(upstream, "done"))
    boxes = {box.stage: box for box in graph.boxes}
    assert ["a", *names[:2], f"{names[2][:39]}…", "z"] == [boxes[stage].name for stage in upstream]
    widths = [boxes[stage].width for stage in ("a", *names, "z")]
    assert [132, 362, 362, 362, 132] == widths
    assert boxes["z"].x == boxes[names[0]].x + 362 + GAP_X
    assert graph.width == boxes["z"].x + 132 + 4
