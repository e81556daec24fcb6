"""Every value of a stage knows where it was written."""

from __future__ import annotations

from pathlib import Path

from rlhfc.compile.digests import CachedDigester
from rlhfc.compile.keys import KeyDocument, key_document
from rlhfc.compile.mirrors import Mirrors
from rlhfc.compile.pipeline import compile_pipeline
from rlhfc.compile.world import World
from rlhfc.spec.load import load_pipeline
from rlhfc.spec.origins import origins_of

SPEC = """\
schema: 1
defaults:
  seed: 7
  deepspeed:
    zero_optimization: {reduce_bucket_size: 1000}
stages:
  engines:
    kind: engine_init
    actor_model: {hub: owner/actor}
    reward_model: {hub: owner/reward}
    prompts: {path: rows}
    actor:
      lora: {rank: 8}
  ppo:
    kind: ppo
    engines: engines.engines
    prompts: {path: rows}
    kl_coef: 0.1
  sft:
    kind: sft
    model: {hub: owner/actor}
    data: {path: rows}
    global_batch_size: 8
"""


def written(folder: Path) -> Path:
    """The spec and its rows."""
    (folder / "rows").mkdir()
    (folder / "rows" / "a.jsonl").write_text("{}\n")
    spec = folder / "pipeline.yaml"
    spec.write_text(SPEC)
    return spec


def test_origins_of_a_stage(tmp_path, monkeypatch):
    """A value's origin is its line, an option, or a line of the defaults; a field's own default has none."""
    spec = written(tmp_path)
    monkeypatch.chdir(tmp_path)
    loaded = load_pipeline(Path("pipeline.yaml"), ["sft.learning_rate=1e-4"])
    assert {
        "seed": "pipeline.yaml:3 (defaults)",
        "deepspeed": "pipeline.yaml:4 (defaults)",
        "deepspeed.zero_optimization": "pipeline.yaml:5 (defaults)",
        "deepspeed.zero_optimization.reduce_bucket_size": "pipeline.yaml:5 (defaults)",
        "model": "pipeline.yaml:21",
        "data": "pipeline.yaml:22",
        "global_batch_size": "pipeline.yaml:23",
        "learning_rate": "--set sft.learning_rate=1e-4",
    } == origins_of(loaded.stages["sft"], spec.parent)


def test_origins_in_a_key_document(tmp_path):
    """The stored document has them for the stage's own values and for the settings that it reads."""
    spec = written(tmp_path)
    world = World(
        Mirrors(), CachedDigester(), gpus=0, libraries=lambda _: "1.2.3", hub_cache=tmp_path / "hub"
    )
    action = compile_pipeline(load_pipeline(spec), world).actions["ppo"]
    known = key_document(action, {("engines", "engines"): f"b3:{'0' * 64}"}, world.libraries)
    assert isinstance(known, KeyDocument)
    origins = known.stored["origins"]
    assert ("pipeline.yaml:18", "pipeline.yaml:13") == (
        origins["params.kl_coef"],
        origins["settings.engines.actor.lora.rank"],
    )
    assert "params.epochs" not in origins
