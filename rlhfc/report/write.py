"""Write the report: one HTML file that needs nothing else."""

from __future__ import annotations

from datetime import UTC, datetime
from pathlib import Path

from jinja2 import PackageLoader, StrictUndefined
from jinja2.sandbox import SandboxedEnvironment

from rlhfc.compile.action import Pipeline
from rlhfc.compile.world import Libraries
from rlhfc.errors import Diagnostic, UserError
from rlhfc.plan.planner import make_plan
from rlhfc.report import charts
from rlhfc.report.data import ReportData, gather
from rlhfc.report.graph import BOX_HEIGHT, PADDING, Graph
from rlhfc.store.files import write_atomic
from rlhfc.store.store import Store

TEMPLATE, GRAPH = "report.html.j2", "graph.svg.j2"
BOX = {"height": BOX_HEIGHT, "padding": PADDING}


def write_report(pipeline: Pipeline, store: Store, libraries: Libraries, output: Path | None = None) -> Path:
    """Write the report of a pipeline as it stands; return its path.

    Args:
        pipeline: the compiled spec.
        store: results, metrics and ledger.
        libraries: version of an installed distribution.
        output: where to; default in the store.

    Raises:
        UserError: the file cannot be written.
    """
    plan = make_plan(pipeline, store, libraries)
    data = gather(plan, store, f"{datetime.now(UTC):%Y-%m-%d %H:%M} UTC")
    path = output or store.layout.report(pipeline.name)
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        write_atomic(path, render(data).encode())
    except OSError as error:
        raise UserError(Diagnostic(f"cannot write the report `{path}`: {error.strerror}")) from error
    return path


def render(data: ReportData) -> str:
    """Turn report data into HTML; every text in it is escaped."""
    return _environment().get_template(TEMPLATE).render(report=data, chart=charts, box=BOX)


def render_graph(graph: Graph) -> str:
    """Turn a drawing into an SVG file that needs nothing else, the same that stands in a report."""
    return _environment().get_template(GRAPH).render(graph=graph, alone=True, box=BOX)


def _environment() -> SandboxedEnvironment:
    return SandboxedEnvironment(
        loader=PackageLoader("rlhfc.report", ""),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
        keep_trailing_newline=True,
    )
