"""A pipeline small enough to run whole, with every stage kind and real ranks: a few thousand weights."""

import json
import random
import subprocess
import sys
from pathlib import Path

import torch
from tokenizers import Tokenizer, models, pre_tokenizers
from transformers import LlamaConfig, LlamaForCausalLM, PreTrainedTokenizerFast

WORDS = 40
# How the rows of the world are split.
SPLIT = """\
  split:
    kind: data_split
    tokenizer: {path: model}
    sources:
      - data: {path: rows.jsonl}
        columns: {prompt: prompt, chosen: chosen, rejected: rejected}
    parts: [1, 1, 1]
    template: plain
    max_tokens: 48
"""
SPEC = (
    """\
schema: 1
name: tiny
defaults: {device: cpu, dtype: fp32, log_every: 1}
stages:
"""
    + SPLIT
    + """\
  sft:
    kind: sft
    model: {path: model}
    data: split.sft
    ranks: 2
    zero_stage: 2
    learning_rate: 1e-2
    global_batch_size: 8
    checkpoint_every: 2
  reward:
    kind: reward
    model: {path: model}
    data: split.reward
    learning_rate: 1e-2
    global_batch_size: 8
    epochs: 2
  engines:
    kind: engine_init
    actor_model: sft.model
    reward_model: reward.model
    prompts: split.prompts
    ranks: 2
    actor: {dtype: fp32, zero_stage: 3, lora: {rank: 4}}
    critic: {dtype: fp32, zero_stage: 1}
    reference: {dtype: fp32, zero_stage: 3}
    reward: {dtype: fp32}
    trial_prompts: 8
    max_response_tokens: 8
  ppo:
    kind: ppo
    engines: engines.engines
    prompts: split.prompts
    ranks: 2
    max_steps: 6
    epochs: 6
    rollout_batch_size: 8
    minibatch_size: 4
    ppo_epochs: 2
    sampling: {max_response_tokens: 8}
    actor_learning_rate: 1e-3
    critic_learning_rate: 1e-3
    kl_coef: 0.1
    checkpoint_every: 1
  eval:
    kind: evaluate
    baseline: sft.model
    candidate: ppo.actor
    reward_model: reward.model
    prompts: split.heldout
    max_response_tokens: 8
    judges: [{name: lower, code: {path: judge.py}}]
  export: {kind: export, model: ppo.actor, evaluation: eval.report, dtype: fp32}
"""
)
JUDGE = '''"""Prefers words of low number."""
def score(prompt: str, response: str) -> float:
    return -sum(int(word[1:]) for word in response.split() if word[1:].isdigit())
'''


def make_world(folder: Path) -> Path:
    """Write model, rows, judge and spec; returns the spec."""
    torch.manual_seed(0)
    sizes = {
        "vocab_size": WORDS + 3,
        "hidden_size": 16,
        "intermediate_size": 32,
        "num_hidden_layers": 2,
        "num_attention_heads": 2,
        "num_key_value_heads": 2,
        "max_position_embeddings": 64,
    }
    ids = {"pad_token_id": 0, "bos_token_id": 1, "eos_token_id": 2}
    LlamaForCausalLM(LlamaConfig(**sizes, **ids)).save_pretrained(folder / "model")
    vocabulary = {"<pad>": 0, "<s>": 1, "</s>": 2} | {f"w{number}": number + 3 for number in range(WORDS)}
    words = Tokenizer(models.WordLevel(vocabulary, unk_token="<pad>"))
    words.pre_tokenizer = pre_tokenizers.WhitespaceSplit()
    tokenizer = PreTrainedTokenizerFast(
        tokenizer_object=words, pad_token="<pad>", bos_token="<s>", eos_token="</s>"
    )
    tokenizer.save_pretrained(folder / "model")
    draw = random.Random(0)

    def text(low: int, high: int) -> str:
        return " ".join(f"w{draw.randrange(low, high)}" for _ in range(draw.randrange(2, 7)))

    rows = [
        {"prompt": text(0, WORDS), "chosen": text(0, 10), "rejected": text(20, WORDS)} for _ in range(120)
    ]
    (folder / "rows.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    (folder / "judge.py").write_text(JUDGE)
    spec = folder / "tiny.yaml"
    spec.write_text(SPEC)
    return spec


def command(name: str, spec: Path, *options: str, store: str = "store") -> list[str]:
    """The command line of ``rlhfc NAME`` with a store beside the spec."""
    return [sys.executable, "-m", "rlhfc", name, str(spec), "--store", str(spec.parent / store), *options]


def rlhfc(name: str, spec: Path, *options: str, store: str = "store") -> subprocess.CompletedProcess[str]:
    """Run it to its end."""
    return subprocess.run(
        command(name, spec, *options, store=store), capture_output=True, text=True, check=False, timeout=800
    )
