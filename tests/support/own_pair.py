"""Two pairs of other shapes than the shipped ones, saved as anyone's would be: a folder each, with the tokenizer."""

from __future__ import annotations

import shutil
from pathlib import Path
from typing import Any

import torch
from torch import nn
from transformers import LlamaConfig, LlamaForCausalLM, Qwen3Config, Qwen3ForCausalLM

from tests.support.paths import TINY


def save_random(folder: Path) -> tuple[Path, Path]:
    """`small`, a Llama with biases everywhere, and `large`, a Qwen3, of other heads; in bf16, their choices varied."""
    torch.manual_seed(3)
    common: dict[str, Any] = {"vocab_size": 576, "num_key_value_heads": 2, "max_position_embeddings": 1024}
    common |= {"tie_word_embeddings": False, "initializer_range": 0.2, "num_attention_heads": 4, "eos_token_id": 2}
    small: dict[str, Any] = {"hidden_size": 128, "intermediate_size": 192, "num_hidden_layers": 2, "head_dim": 48}
    large: dict[str, Any] = {"hidden_size": 192, "intermediate_size": 320, "num_hidden_layers": 3, "head_dim": 32}
    slm = LlamaForCausalLM(LlamaConfig(attention_bias=True, mlp_bias=True, **common, **small))
    llm = Qwen3ForCausalLM(Qwen3Config(**common, **large))
    for name, model in ("small", slm), ("large", llm):
        for module in model.modules():
            if isinstance(module, nn.Linear) and module.bias is not None:
                nn.init.normal_(module.bias, std=0.1)
        model.to(torch.bfloat16).save_pretrained(folder / name)  # pyright: ignore[reportCallIssue, reportArgumentType]
        add_tokenizer(folder / name)
    return folder / "small", folder / "large"


def save_tiny(folder: Path) -> tuple[Path, Path]:
    """The tiny pair's models, which can do arithmetic, as folders of one's own."""
    for title, role in (("small", "slm"), ("large", "llm")):
        shutil.copytree(TINY / role, folder / title)
        add_tokenizer(folder / title)
    return folder / "small", folder / "large"


def add_tokenizer(folder: Path) -> None:
    for path in (TINY / "tokenizer").iterdir():
        shutil.copy(path, folder)
