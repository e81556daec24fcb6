"""How fast this machine multiplies in fp32 and in bf16: which `dtype` to choose on a CPU.

    python benchmarks/matmul.py

Multiplies 512×576 by 576×1536, a layer of SmolLM2-135M on 512 tokens, and prints GFLOP/s.
"""

from __future__ import annotations

import time

import torch

ROWS, INNER, COLUMNS, TIMES = 512, 576, 1536, 30


def gflops(dtype: torch.dtype) -> float:
    """Best of five rounds."""
    left, right = torch.randn(ROWS, INNER, dtype=dtype), torch.randn(COLUMNS, INNER, dtype=dtype).t()
    rounds = []
    for _ in range(5):
        started = time.perf_counter()
        for _ in range(TIMES):
            left @ right
        rounds.append(time.perf_counter() - started)
    return 2e-9 * TIMES * ROWS * INNER * COLUMNS / min(rounds)


def main() -> None:
    """Print a line for each number of threads and type."""
    for threads in (1, 2):
        torch.set_num_threads(threads)
        for dtype in (torch.float32, torch.bfloat16):
            print(f"{threads} threads, {str(dtype).removeprefix('torch.')}: {gflops(dtype):.0f} GFLOP/s")


if __name__ == "__main__":
    main()
