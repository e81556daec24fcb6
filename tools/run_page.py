"""Write the figures of a finished run into its documentation page.

    python tools/run_page.py SPEC PAGE [--store FOLDER] [--mirror ID=TARGET …]

PAGE is a Markdown file. The lines between ``<!-- run -->`` and ``<!-- /run -->`` are written anew: table
of stages, win rates, curves (SVG files in a folder named after the page) and samples side by side.
"""

from __future__ import annotations

import argparse
import os
import platform
import re
from html import escape
from pathlib import Path

from rlhfc.cli.options import add_pipeline_options
from rlhfc.cli.prepare import prepare
from rlhfc.plan.planner import make_plan
from rlhfc.report.charts import HEIGHT, WIDTH, Panel
from rlhfc.report.data import Evaluation, ReportData, StageFacts, gather
from rlhfc.store.store import Store

COLOURS = ("#2563eb", "#d97706", "#059669", "#9333ea")
SAMPLES = 5
BLOCK = re.compile(r"<!-- run -->.*<!-- /run -->", re.DOTALL)


def svg(panel: Panel) -> str:
    """One chart as a file of its own, legible on light and dark ground."""
    parts = [
        f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {WIDTH} {HEIGHT + 36}" width="{WIDTH}" '
        'font-family="sans-serif" font-size="10" fill="#6b7280">',
        f'<rect width="{WIDTH}" height="{HEIGHT + 36}" fill="#ffffff"/>',
        f'<text x="6" y="14" font-size="12" fill="#111827">{escape(panel.title)}</text>',
        '<g transform="translate(0 20)">',
    ]
    for tick in panel.y_ticks:
        parts.append(f'<path d="M46 {tick.at:.1f}H{WIDTH - 8}" stroke="#e5e7eb"/>')
        parts.append(f'<text x="42" y="{tick.at + 3:.1f}" text-anchor="end">{escape(tick.label)}</text>')
    for tick in panel.x_ticks:
        at = f'x="{tick.at:.1f}" y="{HEIGHT - 8}" text-anchor="middle"'
        parts.append(f"<text {at}>{escape(tick.label)}</text>")
    for line in panel.lines:
        faint = ' opacity="0.3"' if line.bound or line.smooth else ""
        colour = COLOURS[line.colour]
        parts.append(f'<polyline points="{line.points}" fill="none" stroke="{colour}"{faint}/>')
        if line.smooth:
            stroke = f'fill="none" stroke="{colour}" stroke-width="1.6"'
            parts.append(f'<polyline points="{line.smooth}" {stroke}/>')
    named = [line for line in panel.lines if not line.bound]
    for place, line in enumerate(named):
        x = 46 + place * 145
        parts.append(f'<text x="{x}" y="{HEIGHT + 10}" fill="{COLOURS[line.colour]}">')
        parts.append(f"{escape(line.name)} {escape(line.last)}</text>")
    return "\n".join([*parts, "</g></svg>\n"])


def cell(text: str) -> str:
    """Text that is safe in a Markdown table."""
    return escape(" ".join(text.split()), quote=False).replace("|", "\\|")


def stage_table(data: ReportData) -> list[str]:
    """One row a stage: time and main figures."""
    rows = ["| stage | time | figures |", "|---|---|---|"]
    for stage in data.stages:
        figures = ", ".join(f"{name} {value}" for name, value in stage.figures)
        rows.append(f"| {stage.stage} | {stage.time} | {cell(figures)} |")
    return rows


def evaluation_tables(evaluation: Evaluation) -> list[str]:
    """Win rates, means of both sides, and samples."""
    lines = ["", "| judge | win rate | interval | wins / ties / losses |", "|---|---|---|---|"]
    for rate in evaluation.win_rates:
        lines.append(
            f"| {rate.judge} | {rate.win:.1%} | {rate.low:.1%} … {rate.high:.1%} "
            f"| {rate.wins} / {rate.ties} / {rate.losses} |"
        )
    lines += ["", "| mean | baseline | candidate |", "|---|---|---|"]
    lines += [f"| {name} | {before} | {after} |" for name, before, after in evaluation.metrics]
    lines += ["", "| prompt | baseline | candidate |", "|---|---|---|"]
    lines += [
        f"| {cell(s.prompt)} | {cell(s.baseline)} | {cell(s.candidate)} |"
        for s in evaluation.samples[:SAMPLES]
    ]
    return lines


def curves(stage: StageFacts, folder: Path) -> list[str]:
    """Write a stage's main charts and return the lines that show them."""
    images = []
    for panel in stage.panels:
        name = f"{stage.stage}-{re.sub('[^a-z]+', '-', panel.title.lower()).strip('-')}.svg"
        (folder / name).write_text(svg(panel), encoding="utf-8")
        images.append(f"![{stage.stage}: {panel.title}]({folder.name}/{name})")
    return ["", f"**{stage.stage}**", "", *images] if images else []


def main() -> None:
    """Read the store, write charts and block."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    add_pipeline_options(parser)
    parser.add_argument("page", type=Path)
    arguments = parser.parse_args()
    prepared = prepare(arguments)
    store = Store.open(prepared.store)
    data = gather(make_plan(prepared.pipeline, store, prepared.world.libraries), store, "")
    folder = arguments.page.with_suffix("")
    folder.mkdir(exist_ok=True)
    for old in folder.glob("*.svg"):
        old.unlink()
    machine = f"{os.cpu_count()} cores, {platform.machine()}, no GPU, Python {platform.python_version()}"
    lines = ["<!-- run -->", f"Machine: {machine}.", "", *stage_table(data)]
    for evaluation in data.evaluations:
        lines += evaluation_tables(evaluation)
    for stage in data.stages:
        lines += curves(stage, folder)
    block = "\n".join([*lines, "<!-- /run -->"])
    page = arguments.page.read_text(encoding="utf-8")
    arguments.page.write_text(BLOCK.sub(lambda _: block, page), encoding="utf-8")


if __name__ == "__main__":
    main()
