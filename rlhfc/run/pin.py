"""Ask the hub for the commits that a spec leaves open, so that keys can name them."""

from __future__ import annotations

from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace

from rlhfc.compile.action import Action, Pipeline, ResolvedSource
from rlhfc.run.inputs import DownloadError, ask_commit

Ask = Callable[[ResolvedSource, str], str]
AT_ONCE = 8


def pin_sources(pipeline: Pipeline, ask: Ask = ask_commit) -> Pipeline:
    """Give every hub source without a known commit the one that its branch or tag has now.

    The commit is left in the hub library's own cache, where the next plan finds it. A source whose
    commit cannot be had stays open, and says what the hub said.

    Args:
        pipeline: the compiled spec.
        ask: (source, ``model`` or ``dataset``) to commit.
    """
    found = {
        (source.hub, kind): source
        for action in pipeline.actions.values()
        for source, kind in _open_sources(action)
    }
    if not found:
        return pipeline
    with ThreadPoolExecutor(AT_ONCE) as pool:
        pinned = dict(zip(found, pool.map(lambda at: _commit(found[at], at[1], ask), found), strict=True))
    actions = {name: _with_commits(action, pinned) for name, action in pipeline.actions.items()}
    return replace(pipeline, actions=actions)


def _open_sources(action: Action) -> list[tuple[ResolvedSource, str]]:
    return [
        (binding, action.repository_type(address))
        for address, binding in action.inputs.items()
        if isinstance(binding, ResolvedSource) and binding.unresolved is not None and binding.hub is not None
    ]


Answer = tuple[str | None, str]


def _commit(source: ResolvedSource, kind: str, ask: Ask) -> Answer:
    try:
        return ask(source, kind), ""
    except DownloadError as error:
        return None, str(error)


def _with_commits(action: Action, pinned: dict[tuple[tuple[str, str] | None, str], Answer]) -> Action:
    inputs = dict(action.inputs)
    for address, binding in action.inputs.items():
        if not isinstance(binding, ResolvedSource) or binding.unresolved is None or binding.hub is None:
            continue
        commit, said = pinned[(binding.hub, action.repository_type(address))]
        if commit is None:
            inputs[address] = replace(binding, unresolved=f"{binding.unresolved}; {said}")
        else:
            digest = f"hub:{commit}/{binding.file}" if binding.file else f"hub:{commit}"
            inputs[address] = replace(binding, digest=digest, hub=(binding.hub[0], commit), unresolved=None)
    return replace(action, inputs=inputs)
