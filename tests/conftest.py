"""What holds for every test: code in the repository and in temporary folders may run."""

from __future__ import annotations

import os
import tempfile
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]


def pytest_configure(config: pytest.Config):
    """Trust what tests write, also in the processes that they start; nobody's own list is read."""
    folders = [ROOT, Path(tempfile.gettempdir()), config.option.basetemp]
    os.environ["RLHFC_TRUST"] = os.pathsep.join(str(Path(folder).resolve()) for folder in folders if folder)
