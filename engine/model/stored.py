"""A converted model as its file holds it, for `engine.model.forward`: without transformers, which is slow to import.

The modules have the names of transformers' layers and nothing of what these do. Whoever wants to run the model through
transformers asks for `plain`, which reads it again.
"""

from __future__ import annotations

import ctypes
from collections.abc import Callable, Sequence
from contextlib import suppress
from pathlib import Path
from types import SimpleNamespace
from typing import TYPE_CHECKING, Any

import torch
from safetensors import safe_open
from torch import Tensor, nn

from engine.model.forward import FAMILIES
from engine.model.int8 import Int8Linear, WideEmbedding
from engine.model.kv_cache import head_dim
from engine.model.packed import BLOCK, PACK_ROWS, PackedLinear, own, side_by_side

if TYPE_CHECKING:
    from transformers import PreTrainedModel

LAYOUTS = ("packed", "int8")
_MADV_DONTNEED = 4  # of Linux


def stored_config(values: dict[str, Any], layout: str) -> SimpleNamespace | None:
    """A configuration from what a converted model's `config.json` says; None where transformers has to build it."""
    rope = values.get("rope_parameters")
    known = layout in LAYOUTS and values.get("model_type") in FAMILIES
    if not known or not isinstance(rope, dict) or rope.get("rope_type") != "default":
        return None
    config = SimpleNamespace(**{"eos_token_id": None, **values})
    try:
        outputs = [each * head_dim(config) for each in (config.num_attention_heads, config.num_key_value_heads)]
        outputs += [config.hidden_size, config.intermediate_size, config.vocab_size]
        return None if layout == "packed" and any(each % PACK_ROWS for each in outputs) else config
    except (AttributeError, TypeError):  # it is damaged: transformers says how
        return None


class StoredModel(nn.Module):
    """A model without gradients, in eval mode.

    Attributes:
        config: As `stored_config` gives it.
        plain: Reads it as transformers runs it.
    """

    generation_config = None
    device = torch.device("cpu")

    def __init__(self, config: SimpleNamespace, path: Path, layout: str, plain: Callable[[], PreTrainedModel]) -> None:
        """Reads a safetensors file that `engine.weights.store` has written in this processor's own layout.

        Matrices are copied out of the mapped file (see `engine.weights.store.build`), the embedding stays mapped.

        Raises:
            safetensors.SafetensorError, KeyError, ValueError: The file is damaged or is not this model's.
        """
        super().__init__()
        self.config, self.plain = config, plain
        with safe_open(path, framework="pt", device="cpu") as file:
            tensors = _Tensors(file, config, layout)
            self.decoder = _decoder(tensors, config)
            (self.lm_head,) = tensors.products(config.hidden_size, {"lm_head": config.vocab_size})
        _let_go(path)
        self.eval().requires_grad_(False)

    def get_decoder(self) -> Any:
        """All but `lm_head`, as `engine.model.forward.Trunk` takes it."""
        return self.decoder

    def get_input_embeddings(self) -> nn.Embedding:
        """The embedding of tokens."""
        return self.decoder.embed_tokens

    def get_output_embeddings(self) -> nn.Module:
        """`lm_head`."""
        return self.lm_head


def _let_go(path: Path) -> None:
    """Takes a mapped file's pages out of this process: what was copied out of it would count twice, 1.1 GB for `cpu`.

    They stay in the system's cache, for the next start, and come back when they are read. On Linux only.
    """
    with suppress(OSError, AttributeError):
        for line in Path("/proc/self/maps").read_text("utf-8", errors="replace").splitlines():
            place, *_, name = line.split(maxsplit=5)
            if name == str(path.resolve()):
                start, end = (int(number, 16) for number in place.split("-"))
                ctypes.CDLL(None).madvise(ctypes.c_void_p(start), ctypes.c_size_t(end - start), _MADV_DONTNEED)


class _Tensors:
    """The tensors of an open file, in the form that the products want them."""

    def __init__(self, file: Any, config: SimpleNamespace, layout: str) -> None:
        self._file, self._int8, self.names = file, layout == "int8", set(file.keys())

    def vector(self, name: str) -> Tensor:
        """A norm's weights or a bias; with int8, all between the products is float32."""
        vector = own(self._file.get_tensor(name))
        return vector.float() if self._int8 else vector

    def embedding(self, rows: int, width: int) -> nn.Embedding:
        """The embedding, which is only looked up and stays mapped."""
        weight = self._file.get_tensor("model.embed_tokens.weight")
        _check("model.embed_tokens", weight, (rows, width))
        kind = WideEmbedding if self._int8 else nn.Embedding
        return kind.from_pretrained(weight)

    def products(self, inputs: int, outputs: dict[str, int]) -> list[nn.Module]:
        """Matrices [out, inputs] by name, which read the same input."""
        codes = [self._file.get_tensor(f"{name}.weight") for name in outputs]
        for matrix, (name, rows) in zip(codes, outputs.items(), strict=True):
            _check(name, matrix, (rows, inputs if self._int8 else inputs // 2))
        biases = [self.vector(f"{name}.bias") if f"{name}.bias" in self.names else None for name in outputs]
        if self._int8:
            return [self._int8_product(*each) for each in zip(outputs, codes, biases, strict=True)]
        whole, parts = side_by_side(codes)
        scales = [own(self._file.get_tensor(f"{name}.weight.absmax")) for name in outputs]
        for absmax, (name, rows) in zip(scales, outputs.items(), strict=True):
            _check(f"{name}.weight.absmax", absmax, (inputs // BLOCK, rows))
        return [PackedLinear(*each, whole) for each in zip(parts, scales, biases, strict=True)]

    def _int8_product(self, name: str, codes: Tensor, bias: Tensor | None) -> Int8Linear:
        """Its codes stay mapped: they are read once, to be packed for this processor."""
        made = Int8Linear(codes, own(self._file.get_tensor(f"{name}.scales")), bias=bias is not None)
        if bias is not None:
            made.bias = nn.Parameter(bias, requires_grad=False)
        return made


class _Scale(nn.Module):
    """The weights of a norm [d]."""

    def __init__(self, weight: Tensor) -> None:
        super().__init__()
        self.weight = nn.Parameter(weight, requires_grad=False)


class _Rotary:
    """The rotary embedding of transformers' "default" type, to the bit."""

    def __init__(self, config: SimpleNamespace) -> None:
        width = head_dim(config)
        exponents = torch.arange(0, width, 2, dtype=torch.float) / width
        self._frequencies = 1.0 / (config.rope_parameters["rope_theta"] ** exponents)

    def __call__(self, like: Tensor, positions: Tensor) -> tuple[Tensor, Tensor]:
        """The cosine and sine [..., tokens, head_dim] at positions [..., tokens], in the dtype of `like`."""
        angles = positions[..., None].float() * self._frequencies
        both = torch.cat((angles, angles), dim=-1)
        return both.cos().to(like.dtype), both.sin().to(like.dtype)


def _decoder(tensors: _Tensors, config: SimpleNamespace) -> Any:
    decoder: Any = nn.Module()
    decoder.embed_tokens = tensors.embedding(config.vocab_size, config.hidden_size)
    decoder.layers = nn.ModuleList(_layer(tensors, config, n) for n in range(config.num_hidden_layers))
    decoder.norm = _Scale(tensors.vector("model.norm.weight"))
    decoder.rotary_emb = _Rotary(config)
    return decoder


def _layer(tensors: _Tensors, config: SimpleNamespace, number: int) -> nn.Module:
    layer, attention, mlp = (nn.Module() for _ in range(3))
    at, hidden, inner, width = f"model.layers.{number}", config.hidden_size, config.intermediate_size, head_dim(config)
    queries, keys = config.num_attention_heads * width, config.num_key_value_heads * width
    layer.self_attn, layer.mlp = attention, mlp
    _put(attention, tensors, f"{at}.self_attn", hidden, {"q_proj": queries, "k_proj": keys, "v_proj": keys})
    _put(attention, tensors, f"{at}.self_attn", queries, {"o_proj": hidden})
    _put(mlp, tensors, f"{at}.mlp", hidden, {"gate_proj": inner, "up_proj": inner})
    _put(mlp, tensors, f"{at}.mlp", inner, {"down_proj": hidden})
    for owner, names in ((layer, ("input_layernorm", "post_attention_layernorm")), (attention, ("q_norm", "k_norm"))):
        prefix = at if owner is layer else f"{at}.self_attn"
        for name in names:
            if owner is layer or f"{prefix}.{name}.weight" in tensors.names:  # Qwen3 alone normalises queries and keys
                setattr(owner, name, _Scale(tensors.vector(f"{prefix}.{name}.weight")))
    return layer


def _put(owner: nn.Module, tensors: _Tensors, prefix: str, inputs: int, outputs: dict[str, int]) -> None:
    made = tensors.products(inputs, {f"{prefix}.{name}": rows for name, rows in outputs.items()})
    for name, product in zip(outputs, made, strict=True):
        setattr(owner, name, product)


def _check(name: str, tensor: Tensor, shape: Sequence[int]) -> None:
    if tuple(tensor.shape) != tuple(shape):
        raise ValueError(f"{name}: stored as {tuple(tensor.shape)}, the model wants {tuple(shape)}")
