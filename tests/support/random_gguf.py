"""Random Qwen2 models of a few hundred kilobytes, written as GGUF files with a small byte-pair tokenizer."""

from __future__ import annotations

from pathlib import Path
from types import SimpleNamespace
from typing import Any

import bitsandbytes as bnb
import gguf
import torch
from torch import nn
from transformers import Qwen2Config, Qwen2ForCausalLM
from transformers.convert_slow_tokenizer import bytes_to_unicode

from engine.model.language_model import LanguageModel

_NAMES = gguf.get_tensor_name_map(gguf.MODEL_ARCH.QWEN2, 64)
IDS = torch.tensor([[1, 5, 9, 260, 17]])
WORDS = ["th", "the", "in"]


def random_qwen(seed: int, width: int = 128, tied: bool = False) -> Qwen2ForCausalLM:
    torch.manual_seed(seed)
    heads: dict[str, Any] = {"num_attention_heads": 2, "num_key_value_heads": 1, "num_hidden_layers": 2}
    sizes: dict[str, Any] = {
        "vocab_size": 288,
        "hidden_size": width,
        "intermediate_size": 2 * width,
        "max_position_embeddings": 512,
    }
    config = Qwen2Config(**heads, **sizes, tie_word_embeddings=tied)
    model = Qwen2ForCausalLM._from_config(config, dtype=torch.bfloat16).eval()
    for module in model.modules():
        if isinstance(module, nn.Linear) and module.bias is not None:
            nn.init.normal_(module.bias, std=0.1)
    return model


def write_gguf(path: Path, model: Qwen2ForCausalLM, words: list[str] = WORDS) -> None:
    """Writes a model in fp32 with a small byte-pair tokenizer, padded to the embedding as the official files are."""
    config = model.config
    writer = gguf.GGUFWriter(path, "qwen2")
    writer.add_context_length(config.max_position_embeddings)
    writer.add_embedding_length(config.hidden_size)
    writer.add_block_count(config.num_hidden_layers)
    writer.add_feed_forward_length(config.intermediate_size)
    writer.add_head_count(config.num_attention_heads)
    writer.add_head_count_kv(config.num_key_value_heads or config.num_attention_heads)
    writer.add_rope_freq_base(10000.0)
    writer.add_layer_norm_rms_eps(config.rms_norm_eps)
    tokens = [*bytes_to_unicode().values(), *words, "<|endoftext|>", "<|im_end|>"]
    types = [gguf.TokenType.NORMAL] * (len(tokens) - 2) + [gguf.TokenType.CONTROL] * 2
    padding = range(len(tokens), config.vocab_size)
    writer.add_tokenizer_model("gpt2")
    writer.add_tokenizer_pre("qwen2")
    writer.add_token_list(tokens + [f"[PAD{index}]" for index in padding])
    writer.add_token_types(types + [gguf.TokenType.UNUSED] * len(padding))
    writer.add_token_merges(["t h", "th e", "i n"] if words == WORDS else ["t o"])
    writer.add_eos_token_id(len(tokens) - 1)
    writer.add_pad_token_id(len(tokens) - 2)
    for name, tensor in model.state_dict().items():
        if not (name == "lm_head.weight" and config.tie_word_embeddings):
            writer.add_tensor(gguf_name(name), tensor.float().numpy())
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_tensors_to_file()
    writer.close()


def gguf_name(name: str) -> str:
    return _NAMES.get_name(name, try_suffixes=(".weight", ".bias")) or name


def logits(model) -> torch.Tensor:
    """What a model says of `IDS`: one of transformers, or as the engine has it."""
    if isinstance(model, SimpleNamespace):  # of the store
        model = LanguageModel(model, "model", model.config.vocab_size)
    with torch.inference_mode():
        if not isinstance(model, LanguageModel):
            return model(IDS, use_cache=False).logits
        (states,) = model.feed(model.new_cache(1, IDS.shape[1]), [0], IDS.tolist())
        return model.logits(states)[None]


def by_bitsandbytes(model: Qwen2ForCausalLM) -> Qwen2ForCausalLM:
    """The same model quantised the way bitsandbytes does it by itself."""
    for name, module in list(model.named_modules()):
        if isinstance(module, nn.Linear):
            sizes, bias = (module.in_features, module.out_features), module.bias is not None
            linear = bnb.nn.Linear4bit(*sizes, bias=bias, compute_dtype=torch.bfloat16, quant_type="nf4")
            linear.weight = bnb.nn.Params4bit(module.weight.data, quant_type="nf4", module=linear)  # pyright: ignore
            linear.bias = module.bias
            model.set_submodule(name, linear.to("cpu"))
    return model.eval()
