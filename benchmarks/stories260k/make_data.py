"""Data for the stories260K run: real story openings, and the model's own continuations in pairs.

    python make_data.py MODEL STORIES

MODEL is a folder with stories260K, STORIES a text file of TinyStories separated by ``<|endoftext|>``.
Writes ``data/stories.jsonl`` (opening and how the story goes on) and ``data/pairs.jsonl`` (opening and
two sampled continuations, the one of better sentiment chosen) beside this file. Needs vaderSentiment.
"""

from __future__ import annotations

import json
import sys
from pathlib import Path

import torch
from judge import score
from transformers import AutoModelForCausalLM, AutoTokenizer

HERE = Path(__file__).parent
OPENING_WORDS, CONTINUATION_WORDS, PAIRS, AT_ONCE = 16, 60, 1200, 100


def openings(stories: Path) -> list[tuple[str, str]]:
    """(opening, continuation) of every story long enough; the last is cut off and left out."""
    texts = stories.read_text(encoding="utf-8").split("<|endoftext|>")[:-1]
    words = [text.split() for text in texts]
    long_enough = [story for story in words if len(story) >= OPENING_WORDS + 20]
    end = OPENING_WORDS + CONTINUATION_WORDS
    return [(" ".join(s[:OPENING_WORDS]), " " + " ".join(s[OPENING_WORDS:end])) for s in long_enough]


@torch.no_grad()
def continuations(model: torch.nn.Module, tokenizer: object, prompts: list[str]) -> list[str]:
    """One sampled continuation of 64 tokens for each prompt, answered in groups of equal length."""
    by_length: dict[int, list[int]] = {}
    ids = [tokenizer(prompt).input_ids for prompt in prompts]
    for place, prompt in enumerate(ids):
        by_length.setdefault(len(prompt), []).append(place)
    texts = [""] * len(prompts)
    for _, places in sorted(by_length.items()):
        for start in range(0, len(places), AT_ONCE):
            group = places[start : start + AT_ONCE]
            batch = torch.tensor([ids[place] for place in group])
            whole = model.generate(
                batch, attention_mask=torch.ones_like(batch), max_new_tokens=64, do_sample=True, top_k=0
            )
            for place, row in zip(group, whole, strict=True):
                # The opening is cut off the text, not off the ids: alone, a word loses the space before it.
                text = tokenizer.decode(row, skip_special_tokens=True)
                texts[place] = text.removeprefix(prompts[place])
    return texts


def write(name: str, rows: list[dict[str, str]]) -> None:
    """Write rows as JSON lines into ``data/``."""
    (HERE / "data").mkdir(exist_ok=True)
    text = "".join(json.dumps(row, ensure_ascii=False) + "\n" for row in rows)
    (HERE / "data" / name).write_text(text, encoding="utf-8")
    print(f"data/{name}: {len(rows)} rows")


def main(model_folder: str, stories: str) -> None:
    """Make both files, seeded."""
    torch.manual_seed(1234)
    torch.set_num_threads(1)  # the model is too small to share
    model = AutoModelForCausalLM.from_pretrained(model_folder).eval()
    tokenizer = AutoTokenizer.from_pretrained(model_folder)
    rows = openings(Path(stories))
    prompts = [prompt for prompt, _ in rows[:PAIRS]]
    sides = [continuations(model, tokenizer, prompts) for _ in range(2)]
    pairs = []
    for prompt, *texts in zip(prompts, *sides, strict=True):
        worse, better = sorted(texts, key=lambda text: score(prompt, text))
        if score(prompt, better) - score(prompt, worse) > 0.2:
            pairs.append({"prompt": prompt, "chosen": better, "rejected": worse})
    write("pairs.jsonl", pairs)
    write("stories.jsonl", [{"prompt": prompt, "response": text} for prompt, text in rows])


if __name__ == "__main__":
    main(*sys.argv[1:])
