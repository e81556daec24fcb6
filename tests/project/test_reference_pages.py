"""The pages for users name every member of the sets that the code closes."""

from __future__ import annotations

import ast
import re
from pathlib import Path
from typing import get_args

from rlhfc.stages.data_split.rows import Reason

from rlhfc.compile.kinds import load_kinds
from rlhfc.compile.reasons import ReasonCode
from rlhfc.environment import VARIABLES
from rlhfc.plan.planner import Verdict
from rlhfc.run.outcome import State
from rlhfc.spec.load import load_pipeline

ROOT = Path(__file__).parents[2]
PAGES = sorted([*ROOT.glob("*.md"), *(ROOT / "docs").rglob("*.md"), *(ROOT / "examples").rglob("*.md")])
ANCHOR = re.compile(r"\]\((?!\w+:)([^)#\s]*)#([^)\s]+)\)")
RUNNING = (ROOT / "docs" / "running.md").read_text(encoding="utf-8")
STAGES = (ROOT / "docs" / "stages.md").read_text(encoding="utf-8")


def first_cells(text: str) -> set[str]:
    """Names in the first cell of every table row."""
    cells = re.findall(r"^\| (`.*?) \|", text, re.MULTILINE)
    return {name for cell in cells for name in re.findall(r"`([^`]+)`", cell)}


def section(text: str, title: str) -> str:
    """The part of a page below a second-level heading."""
    return text.split(f"\n## {title}\n")[1].split("\n## ")[0]


def anchors(page: Path) -> set[str]:
    """What a link into a page may name: each heading in lower case, without punctuation."""
    headings = re.findall(r"^#+ (.*)$", page.read_text(encoding="utf-8"), re.MULTILINE)
    return {re.sub(r"[^\w\- ]", "", heading.lower()).replace(" ", "-") for heading in headings}


def figures_of(file: Path, functions: set[str]) -> set[str]:
    """Names of the figures that these functions put into dictionaries or tuples called `names`."""
    found: set[str] = set()
    for function in ast.walk(ast.parse(file.read_text(encoding="utf-8"))):
        if not isinstance(function, ast.FunctionDef) or function.name not in functions:
            continue
        for node in ast.walk(function):
            if isinstance(node, ast.Dict):
                found |= {key.value for key in node.keys if isinstance(key, ast.Constant)}
            elif isinstance(node, ast.Assign) and getattr(node.targets[0], "id", "") == "names":
                found |= set(ast.literal_eval(node.value))
    return found


def test_links_to_headings_lead_somewhere():
    """The part of a link after `#` is a heading of the page that it names."""
    links = [(page, *link) for page in PAGES for link in ANCHOR.findall(page.read_text(encoding="utf-8"))]
    assert len(links) > 20
    targets = ((page, (page.parent / name) if name else page, anchor) for page, name, anchor in links)
    assert [] == [(page.name, anchor) for page, target, anchor in targets if anchor not in anchors(target)]


def test_specs_on_the_pages_load(tmp_path):
    """Each YAML block that is a whole spec is a valid one."""
    blocks = [
        (page.name, block)
        for page in PAGES
        for block in re.findall(r"^```yaml\n(schema:.*?)^```$", page.read_text(encoding="utf-8"), re.M | re.S)
    ]
    assert "spec.md" in {name for name, _ in blocks}
    for name, block in blocks:
        spec = tmp_path / f"{name}.yaml"
        spec.write_text(block, encoding="utf-8")
        assert load_pipeline(spec).stages, name


def test_every_reason_has_its_row():
    """The closed set of reasons is listed whole, and nothing else is."""
    assert set(ReasonCode) == first_cells(section(RUNNING, "Plan").split("### Reasons")[1])


def test_every_verdict_and_state_is_explained():
    """Verdicts of a plan and states at the end of a run."""
    assert [] == [verdict for verdict in Verdict if f"`{verdict}`" not in section(RUNNING, "Plan")]
    ends = set(State) - {State.QUEUED, State.RUNNING}
    assert ends <= first_cells(section(RUNNING, "Run"))


def test_every_variable_is_listed():
    """What `rlhfc` reads from the environment."""
    read = section(RUNNING, "Environment variables").split("A stage gets")[0]
    assert set(VARIABLES) == first_cells(read)


def test_every_kind_has_its_section():
    """Each built-in kind, and no other."""
    titles = re.findall(r"^## `(\w+)`$", STAGES, re.MULTILINE)
    assert sorted(load_kinds([])) == sorted(titles)


def test_every_reason_to_drop_a_row_is_explained():
    """The reasons that `data_split` counts."""
    assert set(get_args(Reason)) <= first_cells(section(STAGES, "`data_split`"))


def test_every_figure_of_ppo_is_explained():
    """What a line of PPO's metrics holds, from the source that writes it."""
    figures = figures_of(ROOT / "stages" / "ppo" / "main.py", {"describe", "_step"})
    figures |= figures_of(ROOT / "stages" / "common" / "update.py", {"minibatch"})
    assert {"score", "kl_k3", "update_kl", "actor_gradient_norm", "samples_per_second"} <= figures
    assert set() == figures - first_cells(section(STAGES, "`ppo`"))
