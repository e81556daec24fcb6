"""``python -m rlhfc`` is the command ``rlhfc``."""

from __future__ import annotations

import sys

from rlhfc.cli.main import main

sys.exit(main())
