"""``rlhfc graph``: the stages, what reads what, and the state of each, as a drawing."""

from __future__ import annotations

import argparse
from collections.abc import Callable, Mapping

from rlhfc.cli.prepare import prepare
from rlhfc.errors import Diagnostic, UserError
from rlhfc.explain.diagram import Diagram, dot, mermaid
from rlhfc.plan.planner import make_plan
from rlhfc.report.graph import draw
from rlhfc.report.write import render_graph
from rlhfc.spec.load import PipelineSpec, load_pipeline
from rlhfc.store.files import write_atomic
from rlhfc.store.store import Store


def _svg(diagram: Diagram) -> str:
    return render_graph(draw(diagram.upstream, diagram.kinds, diagram.states))


FORMATS: Mapping[str, Callable[[Diagram], str]] = {"mermaid": mermaid, "dot": dot, "svg": _svg}


def run(arguments: argparse.Namespace) -> int:
    """Draw the graph.

    Raises:
        UserError: the spec, an option, a source or the store is wrong, or the file cannot be written.
    """
    spec, states = _without_states(arguments) if arguments.no_state else _with_states(arguments)
    diagram = Diagram(
        name=spec.name,
        upstream={name: list(spec.graph.predecessors(name)) for name in spec.stages},
        kinds={name: stage.loaded.kind.name for name, stage in spec.stages.items()},
        states=states,
    )
    text = FORMATS[arguments.format](diagram)
    if arguments.output is None:
        print(text, end="")
        return 0
    try:
        write_atomic(arguments.output, text.encode())
    except OSError as error:
        raise UserError(Diagnostic(f"cannot write `{arguments.output}`: {error.strerror}")) from error
    print(arguments.output)
    return 0


def _without_states(arguments: argparse.Namespace) -> tuple[PipelineSpec, Mapping[str, str]]:
    spec = load_pipeline(arguments.spec, arguments.overrides, arguments.overlays)
    return spec, dict.fromkeys(spec.stages, "")


def _with_states(arguments: argparse.Namespace) -> tuple[PipelineSpec, Mapping[str, str]]:
    """The spec, and the verdict of a plan on each stage."""
    prepared = prepare(arguments)
    plan = make_plan(
        prepared.pipeline, Store.open(prepared.store, rehash=arguments.rehash), prepared.world.libraries
    )
    return prepared.spec, {name: str(planned.verdict) for name, planned in plan.stages.items()}
