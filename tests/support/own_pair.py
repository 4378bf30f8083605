"""Two pairs of other shapes than the shipped ones, saved as anyone's would be: a folder each, with the tokenizer."""

from __future__ import annotations

import json
import shutil
from pathlib import Path
from typing import Any

import torch
from torch import nn
from transformers import (
    LlamaConfig,
    LlamaForCausalLM,
    PreTrainedModel,
    Qwen3Config,
    Qwen3ForCausalLM,
)

from tests.support.paths import TINY


def random_shapes() -> tuple[PreTrainedModel, PreTrainedModel]:
    """Llama with biases everywhere, and Qwen3; heads of 48 and 32, heads of their own, varied choices."""
    torch.manual_seed(3)
    common: dict[str, Any] = {
        "vocab_size": 576,
        "num_key_value_heads": 2,
        "max_position_embeddings": 1024,
        "tie_word_embeddings": False,
        "initializer_range": 0.2,
    }
    slm = LlamaConfig(
        hidden_size=128, intermediate_size=192, num_hidden_layers=2, num_attention_heads=4, head_dim=48,
        attention_bias=True, mlp_bias=True, eos_token_id=2, **common,
    )  # fmt: skip
    llm = Qwen3Config(
        hidden_size=192, intermediate_size=320, num_hidden_layers=3, num_attention_heads=4, head_dim=32,
        eos_token_id=2, **common,
    )  # fmt: skip
    models = LlamaForCausalLM(slm), Qwen3ForCausalLM(llm)
    for model in models:
        for module in model.modules():
            if isinstance(module, nn.Linear) and module.bias is not None:
                nn.init.normal_(module.bias, std=0.1)
    return models


def save_random(folder: Path) -> tuple[Path, Path]:
    """The random pair, in bf16: `small` and `large`."""
    for name, model in zip(("small", "large"), random_shapes(), strict=True):
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


def other_tokenizer(folder: Path) -> None:
    """Swaps two tokens of a folder's tokenizer."""
    path = folder / "tokenizer.json"
    data = json.loads(path.read_text(encoding="utf-8"))
    words = data["model"]["vocab"]
    one, two = (next(token for token, index in words.items() if index == wanted) for wanted in (300, 301))
    words[one], words[two] = 301, 300
    path.write_text(json.dumps(data), encoding="utf-8")
