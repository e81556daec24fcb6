"""Checkpoints are pickles; a stage that resumes from a stranger's must not run what is in them."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

from rlhfc.run.process import free_port

pytestmark = pytest.mark.launch


def test_engines_of_every_zero_stage_load_and_a_pickle_that_calls_does_not(tmp_path):
    """ZeRO 0 to 3 resume with tensors and plain values only, whatever DeepSpeed asks `torch.load` for."""
    script = Path(__file__).with_name("real_engines.py")
    command = [sys.executable, str(script), str(tmp_path), str(free_port())]
    done = subprocess.run(command, capture_output=True, text=True, timeout=600, check=False)
    told = [line for line in done.stdout.splitlines() if not line.startswith("[")]
    assert [
        *(f"{stage} fp32 same" for stage in (0, 1, 2, 3)),
        *(f"{stage} bf16 same" for stage in (1, 2, 3)),
        "rank-0.pt refused",
        "mp_rank_00_model_states.pt refused",
        "zero_pp_rank_0_mp_rank_00_optim_states.pt refused",
        "unharmed",
    ] == told, done.stderr
