"""What compilation refuses, all at once and with its place."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest
from bench import Bench

from rlhfc.errors import UserError

WRONG = """
schema: 1
stages:
  split:
    kind: data_split
    tokenizer: {path: nowhere}
    sources:
      - data: {path: judge.py}
        columns: {prompt: prompt}
      - data: {hub: no/such/id}
        max_rows: 3
  sft:
    kind: sft
    model: {hub: o/mirrored}
    data: split.sft
    ranks: 3
    deepspeed: {bf16: {enabled: false}}
  rm:
    kind: reward
    model: {path: tiny}
    data: {ref: split.reward, file: rows.jsonl}
    dtype: fp16
"""

MESSAGES = """
{spec}:6:23: error: split.tokenizer: `{folder}/nowhere` does not exist
    6 |     tokenizer: {path: nowhere}
      |                       ^^^^^^^

{spec}:8:22: error: split.sources.0.data: `judge.py` has a suffix that is not known for data
    8 |       - data: {path: judge.py}
      |                      ^^^^^^^^
hint: use `.jsonl`, `.jsonl.gz`, `.json`, `.parquet`

{spec}:10:21: error: split.sources.1.data: `no/such/id` is not a hub id
   10 |       - data: {hub: no/such/id}
      |                     ^^^^^^^^^^
hint: a hub id is `owner/name` or, for a folder, use `path:`

{spec}:16:12: error: sft: `global_batch_size` 64 does not divide over `ranks` 3
   16 |     ranks: 3
      |            ^
hint: set `global_batch_size` to 63 or 66, or `ranks` to 2 or 4

{spec}:17:33: error: sft: `bf16.enabled` of the DeepSpeed config follows from the spec
   17 |     deepspeed: {bf16: {enabled: false}}
      |                                 ^^^^^
hint: set `dtype`

{spec}:21:5: error: rm.data: `file` goes with `path:` or `hub:`, not with a reference
   21 |     data: {ref: split.reward, file: rows.jsonl}
      |     ^^^^

{spec}:22:12: error: rm: `fp16` does not train on the CPU, which is what `device: auto` comes to here
   22 |     dtype: fp16
      |            ^^^^
hint: set `device: gpu` to plan for another machine, or `dtype` to `bf16` or `fp32`

7 errors
"""


def test_everything_that_is_wrong_comes_at_once(bench: Bench) -> None:
    """One run of the command shows every mistake, in the order of the file."""
    with pytest.raises(UserError) as caught:
        bench.compile(WRONG)
    expected = MESSAGES.strip().replace("{spec}", str(bench.folder / "spec.yaml"))
    assert expected.replace("{folder}", str(bench.folder)) == str(caught.value)


USERS_KIND = """
from rlhfc.kind import Kind, StageParams, semantic

class BoundParams(StageParams):
    bound: float = semantic(float("inf"))

KIND = Kind("bound", 1, BoundParams, {}, {})
"""


def test_values_that_cannot_be_hashed(bench: Bench, write: Callable[[str, str], Path]) -> None:
    """A value without an exact notation, here a default of a user's kind, is refused and never rounded."""
    write("mine/bound/kind.py", USERS_KIND)
    write("mine/bound/main.py", "")
    with pytest.raises(UserError) as caught:
        bench.compile("schema: 1\nkinds: [mine]\nstages:\n  a: {kind: bound}\n")
    (found,) = caught.value.diagnostics
    assert "a.bound: inf cannot be written down exactly" == found.message


def test_settings_that_are_not_there(bench: Bench, write: Callable[[str, str], Path]) -> None:
    """A kind that reads a setting which the stage behind its input lacks would be handed nothing."""
    kind = """
from rlhfc.kind import Input, Kind, StageParams, semantic

class {name}Params(StageParams):
    left: Input | None = semantic(None)

KIND = Kind("{name}", 1, {name}Params, {{"left": "thing"}}, {{"thing": "thing"}}, {more})
"""
    for name, more in (
        ("up", "exposes_settings=True"),
        ("down", 'reads_settings={"left": ("seed", "sead")}'),
    ):
        write(f"mine/{name}/kind.py", kind.format(name=name, more=more))
        write(f"mine/{name}/main.py", "")
    with pytest.raises(UserError) as caught:
        bench.compile(
            "schema: 1\nkinds: [mine]\nstages:\n  a: {kind: up}\n  b: {kind: down, left: a.thing}\n"
        )
    (found,) = caught.value.diagnostics
    message = "b.left: kind `down` reads `sead` of what stage `a` is set to, and kind `up` has no such field"
    assert (message, "did you mean `seed`?") == (found.message, found.hint)


def test_a_gpu_pipeline_compiles_without_a_gpu(bench: Bench, all_kinds: str) -> None:
    """`device: gpu` is a statement about the machine that will run, so that a laptop can plan."""
    devices = {name: action.device for name, action in bench.compile(all_kinds).actions.items()}
    on_gpus = ("sft", "rm", "before", "direct", "engines", "ppo")
    assert {**dict.fromkeys(on_gpus, "gpu"), "split": "cpu", "score": "cpu"} == {
        name: device for name, device in devices.items() if name != "card"
    }


def test_auto_takes_gpus_for_deepspeed_only(bench: Bench, all_kinds: str) -> None:
    """Stages that do not train leave the GPUs to those that do."""
    devices = {name: action.device for name, action in bench.on(gpus=1).compile(all_kinds).actions.items()}
    assert ("cpu", "gpu", "cpu") == (devices["split"], devices["score"], devices["card"])


def test_actions_know_upstream_and_line(bench: Bench, all_kinds: str) -> None:
    """An action points back to its line in the spec and to the stages that it reads from."""
    pipeline = bench.compile(all_kinds)
    assert ("sft", "ppo", "rm", "split") == pipeline.upstream("score")
    lines = all_kinds.splitlines()
    assert all(lines[action.line - 1] == f"  {name}:" for name, action in pipeline.actions.items())
