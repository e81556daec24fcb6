"""What differs between two sides: values only."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, replace
from typing import Any

from rlhfc.explain.components import Change, Group, changes
from rlhfc.explain.sides import Side, StageSide, Values

CHOSEN_HERE = ("device",)  # `auto` in a spec is something else in a run


@dataclass(frozen=True)
class Output:
    """A port: tree digest and bytes before and after, None where there is no result."""

    port: str
    before: str | None
    after: str | None
    size_before: int | None
    size_after: int | None

    @property
    def identical(self) -> bool:
        """Whether both sides have the same bytes."""
        return self.before == self.after


@dataclass(frozen=True)
class StageComparison:
    """One stage that both sides have.

    Attributes:
        settings: kind and settings.
        inputs: references and sources of specs, digests of runs.
        code: files, of runs.
        outputs: of runs, identical ones too.
        figures: of the summaries.
    """

    stage: str
    settings: tuple[Change, ...]
    inputs: tuple[Change, ...]
    code: tuple[Change, ...]
    outputs: tuple[Output, ...]
    figures: tuple[tuple[str, Any, Any], ...]

    @property
    def different(self) -> bool:
        """Whether anything differs."""
        moved = any(not output.identical for output in self.outputs)
        return moved or bool(self.settings or self.inputs or self.code or self.figures)


@dataclass(frozen=True)
class Comparison:
    """Two sides.

    Attributes:
        removed: stage to kind, of those that only the first side has; ``added`` likewise.
        environment: name, before and after, of Python, rlhfc and libraries.
        stages: those of both sides, in the order of the second.
    """

    before: Side
    after: Side
    removed: Mapping[str, str]
    added: Mapping[str, str]
    environment: tuple[tuple[str, Any, Any], ...]
    stages: tuple[StageComparison, ...]

    @property
    def different(self) -> bool:
        """Whether anything differs."""
        parts = (self.removed, self.added, self.environment)
        return any(parts) or any(stage.different for stage in self.stages)


def compare(before: Side, after: Side) -> Comparison:
    """Compare two sides; what one of them cannot know is passed over."""
    old, new = before.stages, after.stages
    runs = (before.of, after.of) == ("run", "run")
    pairs = {name: _common((old[name], new[name]), (before.of, after.of)) for name in new if name in old}
    return Comparison(
        before=before,
        after=after,
        removed={name: stage.kind for name, stage in old.items() if name not in new},
        added={name: stage.kind for name, stage in new.items() if name not in old},
        environment=tuple(_differing(_environment(before), _environment(after))) if runs else (),
        stages=tuple(_stage(name, *pair) for name, pair in pairs.items()),
    )


def _common(sides: tuple[StageSide, StageSide], of: tuple[str, str]) -> tuple[StageSide, StageSide]:
    """Both sides with what both can know."""
    old, new = sides
    if of == ("run", "run"):
        return sides
    if of == ("spec", "spec"):
        return _with_labels(old), _with_labels(new)
    chosen = {path for path in CHOSEN_HERE if "auto" in (old.settings.get(path), new.settings.get(path))}
    return _settings_only(old, chosen), _settings_only(new, chosen)


def _with_labels(side: StageSide) -> StageSide:
    return replace(side, settings={**side.settings, **side.labels})


def _settings_only(side: StageSide, without: set[str]) -> StageSide:
    settings = {path: value for path, value in side.settings.items() if path not in without}
    return StageSide(side.kind, settings, places=side.places)


def _stage(name: str, old: StageSide, new: StageSide) -> StageComparison:
    places = (old.places, new.places)
    kinds = ({"": old.kind}, {"": new.kind}) if old.kind and new.kind else ({}, {})
    return StageComparison(
        stage=name,
        settings=(
            *_changes(Group.KIND, *kinds),
            *_changes(Group.SETTING, old.settings, new.settings, places),
        ),
        inputs=_changes(Group.INPUT, old.inputs, new.inputs, places),
        code=_changes(Group.CODE, old.code, new.code),
        outputs=tuple(_outputs(old, new)),
        figures=tuple(_differing(old.summary, new.summary)),
    )


def _changes(
    group: Group, old: Values, new: Values, places: tuple[Mapping[str, str], Mapping[str, str]] = ({}, {})
) -> tuple[Change, ...]:
    before, after = ({(group, path): value for path, value in side.items()} for side in (old, new))
    return tuple(changes(before, after, places))


def _outputs(old: StageSide, new: StageSide) -> Iterator[Output]:
    for port in dict.fromkeys([*new.outputs, *old.outputs]):
        yield Output(
            port, old.outputs.get(port), new.outputs.get(port), old.sizes.get(port), new.sizes.get(port)
        )


def _environment(side: Side) -> Values:
    """Versions of a run; a library has one for the whole of it."""
    found = dict(side.machine)
    for stage in side.stages.values():
        found |= stage.libraries
    return found


def _differing(old: Values, new: Values) -> Iterator[tuple[str, Any, Any]]:
    for name in dict.fromkeys([*new, *old]):
        if old.get(name) != new.get(name):
            yield name, old.get(name), new.get(name)
