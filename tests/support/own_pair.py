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
    PreTrainedTokenizerFast,
    Qwen2ForCausalLM,
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


def save_arithmetic(folder: Path) -> tuple[Path, Path]:
    """The tiny pair as Llama models of another shape: an `lm_head` of its own, biases, heads of twice the size.

    They compute what the tiny pair computes, so they can do arithmetic, in 4 bits too.
    """
    for title, role in (("small", "slm"), ("large", "llm")):
        qwen = Qwen2ForCausalLM.from_pretrained(TINY / role)
        heads = qwen.config.num_attention_heads
        values: dict[str, Any] = qwen.config.to_dict() | {"tie_word_embeddings": False, "attention_bias": True}
        for key in ("model_type", "architectures", "layer_types", "use_sliding_window", "max_window_layers"):
            values.pop(key, None)
        size = qwen.config.hidden_size // heads
        llama = LlamaForCausalLM(LlamaConfig(**values, head_dim=2 * size))
        left = llama.load_state_dict(_with_wide_heads(qwen.state_dict(), size), strict=False)
        assert all(name.endswith("o_proj.bias") for name in left.missing_keys) and not left.unexpected_keys
        for name, parameter in llama.named_parameters():
            if name.endswith("o_proj.bias"):
                nn.init.zeros_(parameter)
        llama.save_pretrained(folder / title)
        add_tokenizer(folder / title)
    return folder / "small", folder / "large"


def _with_wide_heads(weights: dict[str, torch.Tensor], size: int) -> dict[str, torch.Tensor]:
    """The same weights for heads of twice the size, half of which is zeros.

    Of a rotary embedding of twice the size every second frequency is one of the old: there go the pairs that it turns
    together, which are half a head apart.
    """
    half = 2 * torch.arange(size // 2)
    places = torch.cat([half, half + size])

    def widened(heads: torch.Tensor) -> torch.Tensor:  # [heads, size, width] → [heads · 2 · size, width]
        wide = heads.new_zeros(len(heads), 2 * size, heads.shape[-1])
        wide[:, places] = heads
        return wide.flatten(0, 1)

    wide = {}
    for name, old in weights.items():
        kind = name.split(".")[-2]
        if kind in ("q_proj", "k_proj", "v_proj"):
            wide[name] = widened(old.reshape(-1, size, old[0].numel())).reshape(-1, *old.shape[1:])
        elif kind == "o_proj":
            wide[name] = widened(old.T.reshape(-1, size, len(old))).T.contiguous()
        else:
            wide[name] = old
        if kind == "q_proj":
            wide[name] = wide[name] * 2**0.5  # scores are divided by the root of the size
    return wide


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


def tokenizer() -> PreTrainedTokenizerFast:
    return PreTrainedTokenizerFast.from_pretrained(TINY / "tokenizer")
