"""A model of the store: whatever is done to it, wherever a process dies, it answers as a dictionary would."""

import os
import shutil
import tempfile
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

import pytest
from damage import flip, swap
from hypothesis import HealthCheck, settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, rule
from test_store import contents

from rlhfc.compile.keys import ACTION_TAG
from rlhfc.store.digest import tagged_digest
from rlhfc.store.publish import Product
from rlhfc.store.records import Acceptance
from rlhfc.store.store import Store
from rlhfc.upkeep import fsck as examination
from rlhfc.upkeep.findings import Grade
from rlhfc.upkeep.fsck import fsck

OPERATIONS = ("fsync", "link", "rename", "replace", "unlink", "mkdir", "write", "utime", "chmod", "open")
FILES = st.dictionaries(
    st.sampled_from(["a", "b", "sub/c"]), st.sampled_from([b"", b"xx", b"yy", b"zz"]), min_size=1
)
PARTS = st.sampled_from(["objects", "objects", "views", "trees", "actions", "keydocs"])
DAMAGES: dict[str, Callable[[Path], None]] = {
    "flip": flip,
    "cut": lambda path: os.truncate(path, 1),
    "gone": os.unlink,
}


KEYS = {tagged_digest(ACTION_TAG, {"number": number}): number for number in range(5)}


def document(key: str) -> dict:
    """What is kept beside a key of the model; its pre-image hashes to it."""
    return {"document": {"number": KEYS[key]}, "recorded": {}, "origins": {}}


class DiedError(BaseException):
    """The process is killed here; nothing may catch it."""


@contextmanager
def dying(after: int) -> Iterator[None]:
    """Die at the N-th file operation; clean-up that runs while dying does nothing either."""
    left = after
    with pytest.MonkeyPatch.context() as patch:
        for name in OPERATIONS:
            real = getattr(os, name)

            def operation(*given, real=real, **more):
                nonlocal left
                left -= 1
                if left < 0:
                    raise DiedError
                return real(*given, **more)

            patch.setattr(os, name, operation)
        with suppress(DiedError):
            yield


class StoreModel(RuleBasedStateMachine):
    """Results by key: what was published under a key is what is found, or nothing is."""

    def __init__(self) -> None:
        super().__init__()
        self.folder = Path(tempfile.mkdtemp(prefix="rlhfc-model-"))
        self.said: list[str] = []
        self.made: dict[str, list[dict[str, bytes]]] = {}  # what may be found under a key
        self.certain: set[str] = set()  # what must be found
        self.works = 0

    def teardown(self) -> None:
        """Leave nothing behind."""
        shutil.rmtree(self.folder)

    @property
    def store(self) -> Store:
        """The store as a new process sees it."""
        return Store.create(self.folder / "store", self.said.append)

    def product(self, key: str, files: dict[str, bytes]) -> Product:
        """What an action yielded, in a work folder of its own."""
        self.works += 1
        work = self.folder / f"work-{self.works}"
        for name, data in files.items():
            path = work / "out" / name
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_bytes(data)
        (work / "metrics.jsonl").write_text('{"step": 1}\n')
        ports = {"model": work / "out"}
        return Product("r", "p", "s", key, document(key), ports, work / "metrics.jsonl", {}, 1.0, 1)

    @rule(key=st.sampled_from(sorted(KEYS)), files=FILES)
    def publish(self, key: str, files: dict[str, bytes]) -> None:
        """The first result under a key is the one that all are given."""
        before = self.found(key)
        result = self.store.publish(self.product(key, files))
        self.made.setdefault(key, []).append(files)
        self.certain.add(key)
        # A record whose blob was gone is whole again when the new result brings the same bytes.
        expected = [before] if before is not None else self.made[key]
        assert self.files_of(result) in expected

    @rule(key=st.sampled_from(sorted(KEYS)), files=FILES, after=st.integers(0, 60))
    def publish_and_die(self, key: str, files: dict[str, bytes], after: int) -> None:
        """A process that dies while it publishes leaves a whole result or none."""
        product = self.product(key, files)
        store = self.store
        self.made.setdefault(key, []).append(files)
        with dying(after):
            store.publish(product)

    @rule(key=st.sampled_from(sorted(KEYS)))
    def forget(self, key: str) -> None:
        """What is taken back is not found."""
        self.store.forget(key, self.store.record(key))
        assert self.store.lookup(key) is None
        self.made.pop(key, None)
        self.certain.discard(key)

    @rule(key=st.sampled_from(sorted(KEYS)), other=st.sampled_from(sorted(KEYS)))
    def accept(self, key: str, other: str) -> None:
        """A result stands under a second key."""
        store = self.store
        result = store.lookup(key)
        if result is None or store.lookup(other) is not None:
            return
        grounds = Acceptance(key, "Ada", "same", "2026-01-01T00:00:00+00:00")
        store.accept(result, other, document(other), grounds, ("p", "s"))
        self.made[other] = [self.found(key)]
        self.certain.add(other)
        assert other == store.last_key("p", "s")

    @rule(
        key=st.sampled_from(sorted(KEYS)),
        thorough=st.booleans(),
        after=st.one_of(st.none(), st.integers(0, 30)),
    )
    def view(self, key: str, thorough: bool, after: int | None) -> None:
        """A view has the files of a result, also after one that was begun."""
        store = self.store
        result = store.lookup(key)
        if result is None:
            return
        tree = result.outputs["model"]
        with dying(10**9 if after is None else after):
            folder = store.view_read(tree) if thorough else store.view(tree)
            assert contents(folder) in self.made[key]

    @rule(data=st.data(), part=PARTS, how=st.sampled_from(sorted(DAMAGES)))
    def corrupt(self, data, part: str, how: str) -> None:
        """Write into a file, cut it off or delete it."""
        for path in self.any_files(data, part, 1):
            if path.stat().st_size > 0 or how == "gone":
                DAMAGES[how](path)
                self.certain.clear()

    @rule(data=st.data(), part=PARTS)
    def exchange(self, data, part: str) -> None:
        """Let two files take each other's names."""
        found = self.any_files(data, part, 2)
        if found:
            swap(*found)
            self.certain.clear()

    @rule(quick=st.booleans(), after=st.one_of(st.none(), st.integers(0, 60)))
    def repair(self, quick: bool, after: int | None) -> None:
        """After a repair there is nothing to repair, and one that is cut off does no harm."""
        root = self.store.layout.root
        if after is not None:
            with dying(after):
                fsck(root, quick=quick, repair=True, tell=lambda files, size: None)
            return
        fsck(root, quick=quick, repair=True, tell=lambda files, size: None)
        again = fsck(root, quick=quick, repair=True, tell=lambda files, size: None)
        assert [] == [each for each in again.fates if each.finding.meaning.grade is not Grade.NOTE]

    @invariant()
    def what_is_found_is_what_was_published(self) -> None:
        """A lookup finds one of the results that were published, or nothing; never nothing without damage."""
        for key in self.made:
            files = self.found(key)
            assert files in [None, *self.made[key]]
            assert files is not None or key not in self.certain

    def found(self, key: str) -> dict[str, bytes] | None:
        """Files of the result under a key, when there is one."""
        result = self.store.lookup(key)
        return self.files_of(result) if result is not None else None

    def files_of(self, result) -> dict[str, bytes]:
        """Names and bytes of a result's files."""
        store = self.store
        return {
            entry.path: store.blob(entry.digest).read_bytes() for entry in store.tree(result.outputs["model"])
        }

    def any_files(self, data, part: str, count: int) -> list[Path]:
        """So many different files of one kind that results are made of; none where there are too few."""
        found = sorted(p for p in (self.store.layout.root / part).rglob("*") if p.is_file())
        if len(found) < count:
            return []
        return data.draw(st.lists(st.sampled_from(found), min_size=count, max_size=count, unique=True))


examination.AGAIN_SECONDS = 0.0
TestStoreModel = StoreModel.TestCase
TestStoreModel.settings = settings(
    max_examples=25, stateful_step_count=20, deadline=None, suppress_health_check=list(HealthCheck)
)
