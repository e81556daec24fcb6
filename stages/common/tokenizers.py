"""Tokenizers: loading, complete and reproducible saving, and the few facts that stages ask of one.

A tokenizer is never changed here: no token is added and no embedding resized, so token ids mean the
same in the model that a pipeline starts from and in the one that it exports.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterable
from pathlib import Path
from typing import Any

from transformers import AutoTokenizer, PreTrainedTokenizerBase

from .job import InputPath, StageError, write_json

# What transformers notes about where a tokenizer was loaded from; it would enter the output's digest.
_PROVENANCE = ("is_local", "local_files_only", "name_or_path")


def load_tokenizer(source: InputPath) -> PreTrainedTokenizerBase:
    """The tokenizer of a model folder, or of a GGUF file.

    Raises:
        StageError: there is none that transformers can load, or it has no end-of-sequence token.
    """
    options: dict[str, Any] = {"local_files_only": True, "trust_remote_code": False}
    if source.file is not None:
        options["gguf_file"] = source.file
    try:
        tokenizer = AutoTokenizer.from_pretrained(source.path, **options)
    except (OSError, ValueError, KeyError, ImportError) as error:
        reason = str(error).strip().splitlines()[0]
        raise StageError(
            f"no tokenizer can be loaded from `{source.full}`: {reason}",
            "the folder needs `tokenizer.json`, or the files of a tokenizer that transformers knows",
        ) from error
    if tokenizer.eos_token_id is None:
        raise StageError(
            f"the tokenizer in `{source.full}` has no end-of-sequence token",
            "set `eos_token` in its `tokenizer_config.json`: a response must be able to end",
        )
    return tokenizer


def save_tokenizer(tokenizer: PreTrainedTokenizerBase, folder: Path) -> None:
    """Write vocabulary, configuration, special tokens and chat template into ``folder``.

    The same tokenizer gives the same bytes wherever it was loaded from.
    """
    folder.mkdir(parents=True, exist_ok=True)
    tokenizer.save_pretrained(folder)
    settings = folder / "tokenizer_config.json"
    words = json.loads(settings.read_text(encoding="utf-8"))
    write_json(settings, {name: value for name, value in words.items() if name not in _PROVENANCE})


def vocabulary_digest(tokenizer: PreTrainedTokenizerBase) -> str:
    """SHA-256 over every token with its id, and the end-of-sequence id.

    Equal for two tokenizers whose ids mean the same text, so that one may score what the other wrote.
    """
    pairs = sorted((index, token) for token, index in tokenizer.get_vocab().items())
    return hashlib.sha256(json.dumps([pairs, tokenizer.eos_token_id]).encode()).hexdigest()


def filler_id(tokenizer: PreTrainedTokenizerBase) -> int:
    """An id to fill rows of a batch with: the padding token, else the end-of-sequence token.

    It says nothing about where a row ends, because real rows may hold it too: masks come from lengths.
    """
    pad = tokenizer.pad_token_id
    return int(tokenizer.eos_token_id if pad is None else pad)


def stop_ids(tokenizer: PreTrainedTokenizerBase, extra: Iterable[int] = ()) -> list[int]:
    """Ids that end a response: end of sequence and ``extra``, each once, in ascending order.

    Raises:
        StageError: one of ``extra`` is no id of this vocabulary.
    """
    for index in extra:
        if not 0 <= index < len(tokenizer):
            raise StageError(
                f"stop token {index} is not in the vocabulary of {len(tokenizer)} tokens",
                "`stop_token_ids` are ids of the tokenizer, from 0",
            )
    return sorted({int(tokenizer.eos_token_id), *extra})


def wants_bos(tokenizer: PreTrainedTokenizerBase) -> bool:
    """Whether plain text gets a begin-of-sequence token from this tokenizer."""
    bos = tokenizer.bos_token_id
    return bos is not None and tokenizer("a")["input_ids"][:1] == [bos]
