"""Quantised models for the CPU: quantised once, stored, and rebuilt from the store in a second or two."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import torch
from safetensors import safe_open
from safetensors.torch import save_file
from torch import Tensor, nn

from engine.errors import WeightsError
from engine.model import int8
from engine.model.packed import has_kernel, own

if TYPE_CHECKING:
    from transformers import PretrainedConfig, PreTrainedModel

LM_HEAD = "lm_head"


def cpu_layout(wanted: str = "auto") -> str:
    """How weights are stored for this processor: `packed` NF4 with AVX512-BF16, else `int8`; `plain` NF4 without x86.

    Args:
        wanted: "nf4" or "int8" for one of them everywhere, or "auto".

    Raises:
        WeightsError: "int8" where torch has no product for it.
    """
    if wanted == "int8" and not int8.supported():
        raise WeightsError("CITER_CPU_WEIGHTS=int8: this torch has no int8 products (fbgemm): set it to auto or nf4")
    packed = has_kernel()
    if wanted == "int8" or (wanted == "auto" and not packed and int8.supported()):
        return "int8"
    return "packed" if packed else "plain"


def form(layout: str) -> str:
    """What a layout holds, for people."""
    return layout if layout in ("int8", FP32) else "NF4"


FP32 = "fp32"
"""Of a model that is kept as it is, where others have a layout."""


@dataclass(frozen=True)
class Counts:
    """Weights of a model: of its layers' matrices and of its embedding, which a model that is not tied has twice."""

    matrices: int
    embedding: int
    tied: bool

    @property
    def all(self) -> int:
        """All of them; norms and biases are too few to count."""
        return self.matrices + self.embedding * (1 if self.tied else 2)

    def stored(self, layout: str) -> int:
        """Bytes in a layout, on the disk and in memory: what `quantise` keeps, and a little more."""
        if layout == FP32:
            return 4 * self.all
        dense = 2 * self.embedding * (1 if self.tied else 2)
        return int((1.01 if layout == "int8" else 0.54) * (self.matrices + self.embedding) + dense)


def counts_of(model: PreTrainedModel) -> Counts:
    """Those of a model, which need not have its weights."""
    embedding = int(model.get_input_embeddings().weight.numel())  # pyright: ignore[reportCallIssue, reportArgumentType]
    matrices = sum(
        m.weight.numel() for name, m in model.named_modules() if isinstance(m, nn.Linear) and name != LM_HEAD
    )
    return Counts(matrices, embedding, bool(model.config.tie_word_embeddings))


def quantise(model: PreTrainedModel, layout: str, read: Callable[[str], Tensor] | None = None) -> dict[str, Tensor]:
    """Turns a dense model into the flat dictionary that `save` writes and `build` reads.

    Every `nn.Linear`, `lm_head` included, becomes NF4 in blocks of 64; everything else is kept in the model's dtype.
    The dense `lm_head` is kept as well unless it is tied to the embedding, so that either can be chosen at load.
    The model, on the CPU, is of no use afterwards: its Linear weights are freed as they are converted.

    Args:
        model: with its weights, or without memory for them (on "meta") where `read` brings each by its name.
        layout: of `cpu_layout`.
        read: one tensor at a time, so that the dense model is never in memory.

    Returns:
        Tensors by name: `<layer>.weight` (uint8), `<layer>.weight.<part of the quantisation state>`, and the rest.
    """
    from engine.weights.nf4 import quantise_weight  # late: bitsandbytes takes seconds to import

    tied = model.config.tie_word_embeddings
    tensors: dict[str, Tensor] = {}
    for name, module in list(model.named_modules()):
        if not isinstance(module, nn.Linear):
            continue
        weight = read(f"{name}.weight") if read else module.weight.data
        if name == LM_HEAD:
            if not tied:
                tensors[_dense(name)] = weight.clone()
        elif not read:
            module.weight.data = torch.empty(0)
        if layout == "int8":
            tensors[f"{name}.weight"], tensors[f"{name}.scales"] = int8.quantise(weight)
            continue
        packed, state = quantise_weight(weight, layout)
        tensors[f"{name}.weight"] = packed
        tensors |= {f"{name}.weight.{part}": value for part, value in state.as_dict(packed=True).items()}
    for name, value in model.state_dict().items():
        if name not in tensors:
            tensors[name] = (read(name) if read else value).contiguous()
    return tensors


def save(tensors: dict[str, Tensor], path: Path) -> None:
    """Writes the dictionary of `quantise` as one safetensors file."""
    save_file(tensors, path, metadata={"format": "pt"})


def dense(model: PreTrainedModel, read: Callable[[str], Tensor]) -> PreTrainedModel:
    """A model that was made on "meta", with its weights as `read` brings them, in eval mode and without gradients."""
    model.load_state_dict({name: read(name) for name in model.state_dict()}, assign=True)
    if model.config.tie_word_embeddings:
        model.tie_weights()
    rebuild_rotary(model)
    return model.eval().requires_grad_(False)


def build(config: PretrainedConfig, path: Path, layout: str, lm_head_4bit: bool) -> PreTrainedModel:
    """Rebuilds a model from `save`'s file, in eval mode and without gradients.

    Matrices are copied out of the mapped file, where they begin at any address: on a cache line, as torch puts them,
    one token takes 33 and 78 ms (0.5B, 1.5B, one thread) instead of 42 and 112. An embedding that is only looked up
    stays mapped.

    Args:
        config: of the dense model.
        path: the safetensors file.
        layout: the one the file was written in. Must be this CPU's own (`cpu_layout`): the kernels do not check.
        lm_head_4bit: use the NF4 `lm_head`, else the dense one (the embedding itself where they are tied).

    Raises:
        safetensors.SafetensorError, KeyError, ValueError: the file is damaged or is not this model's.
    """
    from transformers import AutoModelForCausalLM  # late, as above

    from engine.weights.nf4 import linear4bit

    with torch.device("meta"):
        model = AutoModelForCausalLM.from_config(config, dtype=torch.bfloat16)
    with safe_open(path, framework="pt", device="cpu") as file:
        stored = set(file.keys())
        for name, module in list(model.named_modules()):
            if isinstance(module, nn.Linear) and (name != LM_HEAD or lm_head_4bit):
                make = _int8 if layout == "int8" else linear4bit
                model.set_submodule(name, make(module, name, file, stored, layout))
        dense = _load_dense(model, file, stored)
        if layout == "int8":
            _widen(model, dense)
    model.load_state_dict(dense, strict=False, assign=True)
    rebuild_rotary(model)
    left = [name for name, value in [*model.named_parameters(), *model.named_buffers()] if value.is_meta]
    if left:
        raise ValueError(f"{path} lacks {', '.join(left[:3])}")
    return model.eval().requires_grad_(False)


def _int8(module: nn.Linear, name: str, file: Any, stored: set[str], layout: str) -> int8.Int8Linear:
    """Its codes stay mapped: they are read once, to be packed for this processor."""
    codes, scales = file.get_tensor(f"{name}.weight"), own(file.get_tensor(f"{name}.scales"))
    if tuple(codes.shape) != (module.out_features, module.in_features) or scales.shape != codes.shape[:1]:
        raise ValueError(f"{name}: stored as {tuple(codes.shape)}, the model wants {tuple(module.weight.shape)}")
    return int8.Int8Linear(codes, scales, bias=module.bias is not None)


def _widen(model: PreTrainedModel, dense: dict[str, Tensor]) -> None:
    """Makes everything between int8 products float32, which such processors compute in; embeddings stay bf16."""
    embedding: Any = model.get_input_embeddings()
    wide = int8.WideEmbedding(*embedding.weight.shape, padding_idx=embedding.padding_idx, device="meta")
    model.set_input_embeddings(wide)
    name = "model.embed_tokens.weight"
    dense |= {key: value.float() for key, value in dense.items() if key != name}


def _load_dense(model: PreTrainedModel, file: Any, stored: set[str]) -> dict[str, Tensor]:
    """Everything of the model that is not 4-bit, copied except for an embedding whose rows are only looked up."""
    from bitsandbytes.nn import Linear4bit

    quantised = {f"{name}.weight" for name, m in model.named_modules() if isinstance(m, Linear4bit | int8.Int8Linear)}
    head, embedding = f"{LM_HEAD}.weight", "model.embed_tokens.weight"
    names = [name for name, _ in model.named_parameters() if name not in quantised | {head}]
    dense = {name: file.get_tensor(name) for name in names if name in stored}
    if head not in quantised:
        tied = _dense(LM_HEAD) not in stored
        dense[head] = own(dense[embedding] if tied else file.get_tensor(_dense(LM_HEAD)))
        if tied:
            dense[embedding] = dense[head]
    return {name: value if name in (head, embedding) else own(value) for name, value in dense.items()}


def _dense(name: str) -> str:
    return f"{name}.weight_dense"


def rebuild_rotary(model: PreTrainedModel, device: torch.device | str = "cpu") -> None:
    """Gives a model that was built on the meta device its rotary frequencies, which are computed and not stored."""
    for name, module in list(model.named_modules()):
        if any(buffer.is_meta for buffer in module.buffers(recurse=False)):
            rotary: Any = type(module)
            model.set_submodule(name, rotary(config=model.config).to(device))
