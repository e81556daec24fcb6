"""Makes ``model/``: a byte-level BPE tokenizer and a small Llama that can write letters of the world.

The model is pretrained on letters and answers of every quality, so it knows the language and can
copy a name or a product, but follows no chat format and prefers no manner. ``python make_model.py``
takes two to three minutes on one thread. With ``--check`` it trains nothing: it rebuilds the tokenizer
and measures the model's loss, with status 1 where either is not as this script leaves it.
"""

from __future__ import annotations

import argparse
import json
import random
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import torch
from tokenizers import Tokenizer, decoders, models, pre_tokenizers, trainers
from transformers import LlamaConfig, LlamaForCausalLM, PreTrainedTokenizerFast

sys.path.insert(0, str(Path(__file__).parent))

import judge
import make_data

MODEL = Path(__file__).parent / "model"
SEED = 7
VOCABULARY = 768
SPECIAL = {"pad": "<|pad|>", "bos": "<|bos|>", "eos": "<|eos|>"}
ROLES = ("<|system|>", "<|user|>", "<|assistant|>")
TEMPLATE = (
    "{{ bos_token }}{% for message in messages %}{{ '<|' + message['role'] + '|>' + message['content'] }}"
    "{% if message['role'] == 'assistant' %}{{ eos_token }}{% endif %}{% endfor %}"
    "{% if add_generation_prompt %}{{ '<|assistant|>' }}{% endif %}"
)
INIT = 0.08  # deviation of first weights, 1/√hidden: with 0.02 attention needs 1000 steps to begin to copy
STEPS = 700
BATCH = 32
LEARNING_RATE = 3e-3
MOST_TOKENS = 96
LOSS = (0.39, 0.44)  # nats a token on new text: what `--check` accepts


def documents(rng: random.Random) -> Iterator[str]:
    """Endless text of the world: letters, answers of every quality, and what a desk notes of them.

    The notes say names and products again and again. From letters with answers alone, where they make
    up one word in twenty, a model this small is slow to learn to copy.
    """
    while True:
        case = make_data.draw_case(rng)
        answer = make_data.draw_answer(rng, case, rng.uniform(0.2, 1.0))
        note = f"{case.name}, {case.product}, {judge.PROBLEMS[case.problem][1]}."
        again = f"{case.name} wrote about a {case.product}: {case.letter}\n{note}"
        notes = [f"{case.letter}\n{note}", f"{case.letter}\n{again}", f"{note}\n{again}", f"{note}\n{answer}"]
        yield rng.choice([*notes, *[f"{case.letter}\n{answer}"] * 4])


def build_tokenizer() -> PreTrainedTokenizerFast:
    """Byte-level BPE with begin, end, padding and role tokens, and a chat template."""
    backend = Tokenizer(models.BPE())
    backend.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    backend.decoder = decoders.ByteLevel()
    trainer = trainers.BpeTrainer(
        vocab_size=VOCABULARY,
        special_tokens=[*SPECIAL.values(), *ROLES],
        initial_alphabet=sorted(pre_tokenizers.ByteLevel.alphabet()),
        show_progress=False,
    )
    source = documents(random.Random(SEED))
    backend.train_from_iterator([next(source) for _ in range(4000)], trainer)
    tokenizer = PreTrainedTokenizerFast(
        tokenizer_object=backend, **{f"{name}_token": token for name, token in SPECIAL.items()}
    )
    tokenizer.chat_template = TEMPLATE
    tokenizer.model_max_length = 256
    return tokenizer


def batches(tokenizer: PreTrainedTokenizerFast, seed: int) -> Iterator[torch.Tensor]:
    """Endless batches of documents, padded on the right: int64, (BATCH, longest)."""
    source = documents(random.Random(seed))
    while True:
        rows = tokenizer([next(source) for _ in range(BATCH)], add_special_tokens=False)["input_ids"]
        rows = [[tokenizer.bos_token_id, *row, tokenizer.eos_token_id][:MOST_TOKENS] for row in rows]
        batch = torch.full((BATCH, max(map(len, rows))), tokenizer.pad_token_id)
        for index, row in enumerate(rows):
            batch[index, : len(row)] = torch.tensor(row)
        yield batch


def loss_of(model: LlamaForCausalLM, batch: torch.Tensor) -> torch.Tensor:
    """Mean next-token loss in nats, padding left out."""
    logits = model(input_ids=batch).logits[:, :-1]
    targets = batch[:, 1:]
    # The padding token never occurs in text, so here it does mark what is to be left out.
    return torch.nn.functional.cross_entropy(
        logits.flatten(0, 1), targets.flatten(), ignore_index=model.config.pad_token_id
    )


def train(tokenizer: PreTrainedTokenizerFast) -> LlamaForCausalLM:
    """A model pretrained from random weights."""
    torch.manual_seed(SEED)
    torch.set_num_threads(1)  # the order of sums, and so the weights, depend on it
    model = LlamaForCausalLM(
        LlamaConfig(
            vocab_size=len(tokenizer),
            hidden_size=128,
            initializer_range=INIT,
            intermediate_size=352,
            num_hidden_layers=3,
            num_attention_heads=4,
            max_position_embeddings=256,
            tie_word_embeddings=True,
            **{f"{name}_token_id": tokenizer.convert_tokens_to_ids(token) for name, token in SPECIAL.items()},
        )
    )
    optimiser = torch.optim.AdamW(model.parameters(), lr=LEARNING_RATE, betas=(0.9, 0.95), weight_decay=0.1)
    schedule = torch.optim.lr_scheduler.OneCycleLR(optimiser, LEARNING_RATE, STEPS, pct_start=0.05)
    started = time.monotonic()
    for step, batch in zip(range(STEPS), batches(tokenizer, SEED), strict=False):
        loss = loss_of(model, batch)
        loss.backward()
        torch.nn.utils.clip_grad_norm_(model.parameters(), 1.0)
        optimiser.step()
        schedule.step()
        optimiser.zero_grad()
        if step % 100 == 99:
            print(
                f"step {step + 1}/{STEPS} loss {loss.item():.3f} {time.monotonic() - started:.0f} s",
                flush=True,
            )
    return model


@torch.no_grad()
def measured_loss(model: LlamaForCausalLM, tokenizer: PreTrainedTokenizerFast) -> float:
    """Loss on documents that training did not see, nats a token."""
    return (
        sum(
            loss_of(model, batch).item()
            for _, batch in zip(range(4), batches(tokenizer, SEED + 1), strict=False)
        )
        / 4
    )


def check() -> int:
    """Status 0 if ``model/`` is what this script leaves."""
    tokenizer = build_tokenizer()
    saved = (MODEL / "tokenizer.json").read_text(encoding="utf-8")
    same = json.loads(saved) == json.loads(tokenizer.backend_tokenizer.to_str())
    model = LlamaForCausalLM.from_pretrained(MODEL, dtype=torch.float32)
    loss = measured_loss(model, tokenizer)
    print(f"tokenizer {'as made' if same else 'differs'}; loss {loss:.3f}, wanted {LOSS[0]} to {LOSS[1]}")
    return 0 if same and LOSS[0] <= loss <= LOSS[1] else 1


def main() -> int:
    """Make the model, or check the one that is there."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--check", action="store_true", help="check instead of making")
    if parser.parse_args().check:
        return check()
    tokenizer = build_tokenizer()
    model = train(tokenizer)
    print(f"loss on new text {measured_loss(model, tokenizer):.3f} nats a token")
    model.save_pretrained(MODEL)
    tokenizer.save_pretrained(MODEL)
    return 0


if __name__ == "__main__":
    sys.exit(main())
