"""Stores of several machines, with results that no stage had to make."""

import hashlib
from dataclasses import dataclass, field
from pathlib import Path

from rlhfc.compile.keys import ACTION_TAG
from rlhfc.remote.place import PREFIX
from rlhfc.remote.progress import Tally
from rlhfc.remote.pull import Finder, Puller
from rlhfc.remote.push import Pusher
from rlhfc.store.digest import tagged_digest
from rlhfc.store.publish import Product
from rlhfc.store.store import Store

FILES = {"model.bin": b"weights " * 1000, "deep/er/config.json": b"{}", "empty": b""}


@dataclass
class Team:
    """Machines by name."""

    folder: Path
    said: list[str] = field(default_factory=list)

    def store(self, machine: str) -> Store:
        """The store of a machine."""
        return Store.create(self.folder / machine, self.said.append)

    def result(self, machine: str, files=None, value: int = 0, summary=None):
        """Publish a result on a machine; the key is that of `value`."""
        store = self.store(machine)
        document = {"kind": "toy", "config": {"value": value}}
        key = tagged_digest(ACTION_TAG, document)
        made = store.layout.scratch / f"made-{value}"
        for name, data in (FILES if files is None else files).items():
            (made / "out" / name).parent.mkdir(parents=True, exist_ok=True)
            (made / "out" / name).write_bytes(data)
        (made / "metrics.jsonl").write_text('{"step": 1, "total": 1}\n')
        product = Product(
            run="run",
            pipeline="toys",
            stage="a",
            key=key,
            document={"document": document, "recorded": {"params.ranks": 1}, "origins": {}},
            ports={"thing": made / "out"},
            metrics=made / "metrics.jsonl",
            summary={"loss": 0.5} if summary is None else summary,
            seconds=1.5,
            attempts=1,
            adjusted={"micro_batch_size": 4},
        )
        return store.publish(product)

    def push(self, machine: str, place, result, signer=None) -> tuple[str, Tally]:
        """Push one result; what came of it, and the sums."""
        tally = Tally()
        return str(Pusher(self.store(machine), place, signer, tally).push(result)), tally

    def pull(self, machine: str, place, key: str, trust=None) -> Tally:
        """Pull one result; the sums."""
        finder, tally = Finder(place, trust), Tally()
        record = finder.find(key)
        assert record is not None
        Puller(self.store(machine), finder, place.name, tally).take(record)
        return tally


def contents(store: Store, result) -> dict[str, bytes]:
    """Every file of a result's output."""
    view = store.view(result.outputs["thing"])
    return {str(path.relative_to(view)): path.read_bytes() for path in view.rglob("*") if path.is_file()}


def published(store: Store) -> list[str]:
    """What a store holds under names that count: records, trees, key documents."""
    root = store.layout.root
    return [
        str(p.relative_to(root))
        for top in ("actions", "trees", "keydocs")
        for p in (root / top).rglob("*.json")
    ]


def drafts(store: Store) -> list[str]:
    """What was left in the store's scratch folder."""
    return [path.name for path in store.layout.scratch.iterdir() if not path.name.startswith("made-")]


def files_of(folder: Path) -> dict[str, str]:
    """Name and digest of every file of a shared folder."""
    top = folder / PREFIX
    return {
        str(path.relative_to(top)): hashlib.sha256(path.read_bytes()).hexdigest()
        for path in sorted(top.rglob("*"))
        if path.is_file()
    }


class Recording:
    """A place that notes what is asked of it, and fails where it is told to."""

    def __init__(self, place) -> None:
        self._place, self.name = place, place.name
        self.asked: list[tuple[str, str]] = []
        self.before = lambda method, path: None

    def __getattr__(self, method):
        def call(*arguments):
            path = arguments[1] if method == "send" else arguments[0]
            self.asked.append((method, path))
            self.before(method, path)
            return getattr(self._place, method)(*arguments)

        return call

    def written(self) -> list[str]:
        """Folders that were written to, in order, each run of one once."""
        tops = [
            path.partition("/")[0] for method, path in self.asked if method in ("send", "create", "replace")
        ]
        return [top for place, top in enumerate(tops) if place == 0 or tops[place - 1] != top]
