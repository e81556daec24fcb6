"""Tokenizers and jobs that the tests of data_split and export share."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from rlhfc.stages.common.job import Job, load_job
from rlhfc.stages.common.tokenfiles import SPANS, TokenFile
from rlhfc.stages.data_split.kind import KIND, DataSplitParams
from rlhfc.stages.data_split.main import main
from tokenizers import AddedToken, Tokenizer, decoders, models, normalizers, pre_tokenizers, processors
from tokenizers.trainers import BpeTrainer
from transformers import PreTrainedTokenizerFast

PORTS = ("sft", "reward", "prompts", "heldout", "report")
TEXT = [
    "Once upon a time there was a little cat. The cat sat on the mat.",
    "Human: what is the time? Assistant: It is time to go, says the cat.",
]
CHATML = (
    "{% for message in messages %}"
    "{{ '<|im_start|>' + message['role'] + '\n' + message['content'] + '<|im_end|>\n' }}"
    "{% endfor %}{% if add_generation_prompt %}{{ '<|im_start|>assistant\n' }}{% endif %}"
)


def llama_like() -> PreTrainedTokenizerFast:
    """SentencePiece manners: a space before every text, BOS before every sequence, bytes for the unknown."""
    pieces = ["<unk>", "<s>", "</s>", *(f"<0x{byte:02X}>" for byte in range(256))]
    backend = Tokenizer(models.BPE(unk_token="<unk>", fuse_unk=True, byte_fallback=True))
    backend.normalizer = normalizers.Sequence([normalizers.Prepend("▁"), normalizers.Replace(" ", "▁")])
    backend.train_from_iterator(TEXT, BpeTrainer(vocab_size=400, special_tokens=pieces, show_progress=False))
    words = json.loads(backend.to_str())
    words["added_tokens"] = words["added_tokens"][:3]  # bytes are ordinary tokens
    backend = Tokenizer.from_str(json.dumps(words))
    backend.post_processor = processors.TemplateProcessing(
        single="<s> $A", pair="<s> $A <s> $B", special_tokens=[("<s>", 1)]
    )
    backend.decoder = decoders.Sequence(
        [decoders.Replace("▁", " "), decoders.ByteFallback(), decoders.Fuse(), decoders.Strip(" ", 1, 0)]
    )
    return PreTrainedTokenizerFast(
        tokenizer_object=backend, bos_token="<s>", eos_token="</s>", unk_token="<unk>"
    )


def chatml() -> PreTrainedTokenizerFast:
    """Byte-level BPE without BOS, whose turns end in the end-of-sequence token and a newline."""
    backend = Tokenizer(models.BPE())
    backend.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    backend.decoder = decoders.ByteLevel()
    trainer = BpeTrainer(
        vocab_size=400,
        special_tokens=[AddedToken(token, special=True) for token in ("<|im_start|>", "<|im_end|>")],
        initial_alphabet=sorted(pre_tokenizers.ByteLevel.alphabet()),
        show_progress=False,
    )
    backend.train_from_iterator(TEXT, trainer)
    tokenizer = PreTrainedTokenizerFast(tokenizer_object=backend, eos_token="<|im_end|>")
    tokenizer.chat_template = CHATML
    return tokenizer


def write_rows(path: Path, rows: list[dict[str, Any]]) -> Path:
    """Rows as JSON Lines."""
    path.write_text("".join(json.dumps(row) + "\n" for row in rows), encoding="utf-8")
    return path


def pairs(count: int, start: int = 0) -> list[dict[str, Any]]:
    """Preference rows with distinct prompts."""
    return [
        {"prompt": f"the cat {n}", "chosen": f"sat on {n}", "rejected": f"no {n}"}
        for n in range(start, start + count)
    ]


def config_file(
    work: Path, kind: str, params: dict[str, Any], inputs: dict[str, Path], ports: tuple[str, ...]
) -> Path:
    """A resolved config under ``work``, with its folders."""
    attempt = work / "attempts" / "001"
    attempt.mkdir(parents=True)
    for port in ports:
        (work / "out" / port).mkdir(parents=True)
    config = {
        "format": 1,
        "pipeline": "test",
        "stage": "the-stage",
        "kind": kind,
        "action_key": "b3:0123",
        "params": params,
        "settings": {},
        "inputs": {
            address: {
                "path": str(path.parent if path.is_file() else path),
                "file": path.name if path.is_file() else None,
            }
            for address, path in inputs.items()
        },
        "outputs": {port: str(work / "out" / port) for port in ports},
        "deepspeed": {},
        "batch": None,
        "paths": {
            "work": str(work),
            "attempt": str(attempt),
            "checkpoints": str(work / "checkpoints"),
            "metrics": str(work / "metrics.jsonl"),
            "manifest": str(attempt / "outputs.json"),
            "stop_file": str(attempt / "stop"),
        },
    }
    path = attempt / "config.json"
    path.write_text(json.dumps(config), encoding="utf-8")
    return path


def split_config(
    work: Path, tokenizer: Path, sources: list[tuple[Path, dict[str, Any]]], **params: Any
) -> Path:
    """Resolved config of a ``data_split`` over ``sources``: pairs of a file or folder and its fields.

    ``benchmarks`` are such pairs too, of prompts that training should not have seen.
    """
    against = params.pop("benchmarks", [])
    if against:
        watched = [{"data": f"overlap.against.{n}.data", **fields} for n, (_, fields) in enumerate(against)]
        params["overlap"] = params.get("overlap", {}) | {"against": watched}
    fields = {
        "tokenizer": "tokenizer",
        "sources": [{"data": f"sources.{n}.data", **source} for n, (_, source) in enumerate(sources)],
    }
    inputs = {"tokenizer": tokenizer}
    for name, given in (("sources", sources), ("overlap.against", against)):
        inputs |= {f"{name}.{n}.data": path for n, (path, _) in enumerate(given)}
    return config_file(work, "data_split", fields | params, inputs, PORTS)


def split_job(
    work: Path, tokenizer: Path, sources: list[tuple[Path, dict[str, Any]]], **params: Any
) -> Job[DataSplitParams]:
    """A ``data_split`` job that has run."""
    job = load_job(KIND, DataSplitParams, split_config(work, tokenizer, sources, **params))
    main(job)
    return job


def texts(
    job: Job[DataSplitParams], port: str, split: str, tokenizer: PreTrainedTokenizerFast
) -> list[tuple[str, ...]]:
    """Rows of a split as text, special tokens left out."""
    rows = TokenFile(job.outputs[port], split)
    told = [at for at, name in enumerate(rows.segments) if name != SPANS]
    return [
        tuple(tokenizer.decode(row[at].tolist(), skip_special_tokens=True) for at in told) for row in rows
    ]


def prompts_of(job: Job[DataSplitParams], tokenizer: PreTrainedTokenizerFast) -> dict[str, list[str]]:
    """Prompts in each split, by ``port split``."""
    found = (("sft", "train"), ("sft", "eval"), ("reward", "train"), ("reward", "eval"))
    places = (*found, ("prompts", "train"), ("heldout", "eval"))
    return {
        f"{port} {split}": [row[0] for row in texts(job, port, split, tokenizer)] for port, split in places
    }
