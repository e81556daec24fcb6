"""What removal keeps, and in which order it takes the rest: pure functions of an inventory and its roots."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Collection, Iterable, Mapping
from dataclasses import dataclass, field

from rlhfc.store.ledger_lines import Made
from rlhfc.store.records import ActionResult
from rlhfc.upkeep.inventory import Inventory
from rlhfc.upkeep.work import Work

Cost = tuple[float, float]
"""GPU-seconds, and wall seconds on the CPU."""


@dataclass(frozen=True)
class Policy:
    """How much is kept.

    Attributes:
        keep_runs: newest results of each stage of each pipeline.
        grace: seconds for which everything is kept.
        old: seconds after which logs of earlier attempts and what is in quarantine go.
        free: bytes to free, or None to remove all that is not kept.
    """

    keep_runs: int = 3
    grace: float = 24 * 3600.0
    old: float = 30 * 24 * 3600.0
    free: int | None = None


@dataclass(frozen=True)
class Roots:
    """What is kept whatever its age.

    Attributes:
        planned: keys of kept specs.
        tagged: keys that have a name.
        pinned: keys that living runs use or make.
        trees: trees that living runs use.
        made: every result that a run made or found, newest first.
    """

    planned: frozenset[str] = frozenset()
    tagged: frozenset[str] = frozenset()
    pinned: frozenset[str] = frozenset()
    trees: frozenset[str] = frozenset()
    made: tuple[Made, ...] = ()


@dataclass(frozen=True)
class Candidate:
    """A result, or the folder of an action that has none, which may go.

    Attributes:
        result: None for a folder alone.
        work: its folder, if it has one.
        size: bytes that go with it alone.
        cost: what making it again takes, or what an action without result has taken so far.
    """

    key: str
    pipeline: str
    stage: str
    result: ActionResult | None
    work: Work | None
    size: int
    cost: Cost


@dataclass(frozen=True)
class Removal:
    """What goes.

    Attributes:
        chosen: results and folders, the first to go first.
        trees, views, blobs: digests that nothing refers to then.
        attempts: folders of earlier attempts of results that stay.
        size: bytes that are free then.
        kept: number of results that stay.
        unlisted: results that stay because the ledger does not know them.
    """

    chosen: tuple[Candidate, ...]
    trees: tuple[str, ...]
    views: tuple[str, ...]
    blobs: tuple[str, ...]
    attempts: tuple[Work, ...]
    size: int
    kept: int
    unlisted: int = field(default=0)


def kept_keys(inventory: Inventory, roots: Roots, policy: Policy) -> set[str]:
    """Keys whose results, and whose running actions, stay."""
    kept = {*roots.planned, *roots.tagged, *roots.pinned}
    known = {made.key for made in roots.made}
    kept |= {key for key in inventory.results if key not in known}  # pulled, or the ledger is damaged
    kept |= {key for key, found in inventory.results.items() if found.age < policy.grace}
    there = (made for made in roots.made if made.key in inventory.results)
    kept |= _newest(there, policy.keep_runs)
    unfinished = [work for work in inventory.works if work.key not in inventory.results]
    kept |= {work.key for work in unfinished if work.age < policy.grace}
    by_age = sorted(unfinished, key=lambda work: work.age)
    kept |= _newest((Made(work.pipeline, work.stage, work.key) for work in by_age), policy.keep_runs)
    return kept


def _newest(made: Iterable[Made], count: int) -> set[str]:
    """The first ``count`` keys of each stage."""
    found: dict[tuple[str, str], dict[str, None]] = {}
    for each in made:
        keys = found.setdefault((each.pipeline, each.stage), {})
        if len(keys) < count:
            keys[each.key] = None
    return {key for keys in found.values() for key in keys}


def choose(inventory: Inventory, roots: Roots, policy: Policy, cost: Callable[[str, float], Cost]) -> Removal:
    """Decide what goes.

    Args:
        inventory: what there is.
        roots: what is kept.
        policy: how much is kept, and how much is to be freed.
        cost: what a key took on which device, from its wall seconds.
    """
    kept = kept_keys(inventory, roots, policy)
    references = _References(inventory, roots.trees)
    attempts = tuple(
        work
        for work in inventory.works
        if work.key in kept
        and work.key in inventory.results
        and any(age > policy.old for *_, age in work.earlier)
    )
    freed = references.unreferenced() + sum(inventory.rubbish.values())
    freed += sum(size for work in attempts for _, size, age in work.earlier if age > policy.old)
    chosen = []
    for candidate in sorted(_candidates(inventory, kept, roots.made, cost, references), key=_order):
        if policy.free is not None and freed >= policy.free:
            break
        chosen.append(candidate)
        freed += candidate.work.size if candidate.work is not None else 0
        freed += references.drop(candidate.result) if candidate.result is not None else 0
    gone = {candidate.key for candidate in chosen if candidate.result is not None}
    known = {made.key for made in roots.made}
    return Removal(
        chosen=tuple(chosen),
        trees=tuple(sorted(tree for tree in inventory.trees if not references.trees[tree])),
        views=tuple(sorted(tree for tree in inventory.views if not references.trees[tree])),
        blobs=tuple(sorted(blob for blob in inventory.blobs if not references.blobs[blob])),
        attempts=attempts,
        size=freed,
        kept=len(inventory.results) - len(gone),
        unlisted=sum(1 for key in inventory.results if key not in known),
    )


def _order(candidate: Candidate) -> tuple[bool, float, str]:
    """What takes no GPU to make again goes first; then most bytes for the time that it takes."""
    gpu, cpu = candidate.cost
    return gpu > 0, -candidate.size / max(gpu or cpu, 1e-3), candidate.key


def _candidates(
    inventory: Inventory,
    kept: Collection[str],
    made: Iterable[Made],
    cost: Callable[[str, float], Cost],
    references: _References,
) -> Iterable[Candidate]:
    stages: dict[str, Made] = {}
    for each in made:
        stages.setdefault(each.key, each)
    works = {work.key: work for work in inventory.works}
    for key in {*inventory.results, *works} - {*kept}:
        found, work = inventory.results.get(key), works.get(key)
        result = found.result if found is not None else None
        owner = stages.get(key) or (Made(work.pipeline, work.stage, key) if work is not None else None)
        assert owner is not None  # a result that the ledger does not know is kept
        size = (work.size if work is not None else 0) + (references.alone(result) if result else 0)
        seconds = result.seconds if result is not None else work.seconds if work is not None else 0.0
        yield Candidate(key, owner.pipeline, owner.stage, result, work, size, cost(key, seconds))


class _References:
    """How often each tree and blob is referred to."""

    def __init__(self, inventory: Inventory, pinned: Collection[str]) -> None:
        self._inventory = inventory
        self.trees: Counter[str] = Counter(pinned)
        self.blobs: Counter[str] = Counter()
        for found in inventory.results.values():
            self.trees.update(found.result.outputs.values())
            self.blobs.update(_metrics(found.result))
        for tree in self.trees:
            self.blobs.update(inventory.trees.get(tree, ()))

    def unreferenced(self) -> int:
        """Bytes of what nothing refers to."""
        blobs: Mapping[str, int] = self._inventory.blobs
        views = self._inventory.views
        return sum(size for blob, size in blobs.items() if not self.blobs[blob]) + sum(
            size for tree, size in views.items() if not self.trees[tree]
        )

    def drop(self, result: ActionResult) -> int:
        """Forget a result; the bytes that are free now."""
        freed = 0
        for tree in result.outputs.values():
            self.trees[tree] -= 1
            if self.trees[tree] == 0:
                freed += self._inventory.views.get(tree, 0)
                freed += sum(self._drop_blob(blob) for blob in self._inventory.trees.get(tree, ()))
        return freed + sum(self._drop_blob(blob) for blob in _metrics(result))

    def alone(self, result: ActionResult) -> int:
        """Bytes that only this result has."""
        trees = [tree for tree in result.outputs.values() if self.trees[tree] == 1]
        blobs = {blob for tree in trees for blob in self._inventory.trees.get(tree, ())}
        only = (self._inventory.blobs.get(blob, 0) for blob in blobs if self.blobs[blob] == 1)
        return sum(only) + sum(self._inventory.views.get(tree, 0) for tree in trees)

    def _drop_blob(self, blob: str) -> int:
        self.blobs[blob] -= 1
        return 0 if self.blobs[blob] else self._inventory.blobs.get(blob, 0)


def _metrics(result: ActionResult) -> tuple[str, ...]:
    return (result.metrics,) if result.metrics is not None else ()
