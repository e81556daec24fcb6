"""Every mistake in a spec, with the exact text that the user sees.

Each folder holds ``spec.yaml``, ``expected.txt`` and, where ``--set`` is used, ``set.txt`` with one
override a line; an ``overlay.yaml`` is laid over the spec. To add a case, write its spec and run
``python -m pytest tests/errors --write-expected``, then read what was written.
"""

from __future__ import annotations

from pathlib import Path

import pytest

from rlhfc.errors import UserError
from rlhfc.spec.load import load_pipeline

HERE = Path(__file__).parent
CASES = sorted(path.parent.name for path in HERE.glob("*/spec.yaml"))


def rendered(folder: Path) -> str:
    """What loading the spec in ``folder`` says, without the folder's path."""
    options = folder / "set.txt"
    overrides = options.read_text(encoding="utf-8").splitlines() if options.is_file() else []
    with pytest.raises(UserError) as caught:
        load_pipeline(folder / "spec.yaml", overrides, sorted(folder.glob("overlay.yaml")))
    return caught.value.render().replace(f"{folder}/", "") + "\n"


@pytest.mark.parametrize("case", CASES)
def test_mistake_is_told_in_full(case, request):
    """A spec with mistakes yields exactly the text on record: place, excerpt, pointer, hint, count."""
    expected = HERE / case / "expected.txt"
    told = rendered(HERE / case)
    if request.config.getoption("--write-expected", default=False):
        expected.write_text(told, encoding="utf-8")
    assert expected.read_text(encoding="utf-8") == told
