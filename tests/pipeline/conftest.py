"""One whole run that the tests of this folder share."""

import sys
from dataclasses import dataclass
from pathlib import Path
from subprocess import CompletedProcess

import pytest

sys.path.insert(0, str(Path(__file__).parent))
from world import make_world, rlhfc


@dataclass(frozen=True)
class Ran:
    """A spec, what planning said before, and what the run said."""

    spec: Path
    before: CompletedProcess[str]
    run: CompletedProcess[str]


@pytest.fixture(scope="session")
def ran(tmp_path_factory: pytest.TempPathFactory) -> Ran:
    """The tiny pipeline, run once through real launches on two ranks."""
    spec = make_world(tmp_path_factory.mktemp("tiny"))
    before = rlhfc("plan", spec, "--detailed-exitcode")
    return Ran(spec, before, rlhfc("run", spec))
