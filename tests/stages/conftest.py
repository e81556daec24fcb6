"""Tiny models for the training library's tests, and a tokenizer."""

import pytest
import torch
from data_helpers import llama_like
from transformers import LlamaConfig, LlamaForCausalLM, LlamaForSequenceClassification

SIZES = {
    "vocab_size": 32,
    "hidden_size": 16,
    "intermediate_size": 32,
    "num_hidden_layers": 2,
    "num_attention_heads": 2,
    "num_key_value_heads": 1,
    "max_position_embeddings": 64,
    "pad_token_id": 0,
    "bos_token_id": 1,
    "eos_token_id": 2,
}


@pytest.fixture
def causal_lm() -> LlamaForCausalLM:
    """A Llama of a few thousand random weights, spread wide enough that its choices differ."""
    torch.manual_seed(0)
    return LlamaForCausalLM(LlamaConfig(**SIZES, initializer_range=0.5, tie_word_embeddings=False)).eval()


@pytest.fixture
def classifier() -> LlamaForSequenceClassification:
    """The same with one score a token."""
    torch.manual_seed(1)
    return LlamaForSequenceClassification(LlamaConfig(**SIZES, initializer_range=0.5, num_labels=1)).eval()


@pytest.fixture(scope="session")
def tokenizer():
    """A tokenizer with BOS and prefix space."""
    return llama_like()


@pytest.fixture(scope="session")
def folder(tokenizer, tmp_path_factory):
    """The tokenizer's folder."""
    path = tmp_path_factory.mktemp("tokenizer")
    tokenizer.save_pretrained(path)
    return path
