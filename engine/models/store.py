"""Models in few bits, as one file of safetensors: quantised once, and read in a second or two, without transformers.

| layout | format | where |
| --- | --- | --- |
| `packed` | NF4 as the kernel of a processor with AVX512-BF16 wants it | such a processor, by default without AMX |
| `plain` | NF4 as bitsandbytes quantises to it | a GPU |
| `int8` | 8 bits, one scale for each output | any other processor |
"""

from __future__ import annotations

import json
from collections.abc import Callable, Sequence
from pathlib import Path
from types import SimpleNamespace
from typing import TYPE_CHECKING, Any, BinaryIO

import numpy as np
import torch
from safetensors.torch import save_file
from torch import Tensor, nn

from engine.model import int8, nf4
from engine.model.config import skeleton
from engine.model.forward import joined, layer_of
from engine.model.int8 import Int8Linear, WideEmbedding
from engine.model.nf4 import Nf4Linear, WideNf4Linear

if TYPE_CHECKING:
    from transformers import PreTrainedModel

FP32 = "fp32"
"""The layout of a model that is not quantised."""

WEIGHTS = "model.safetensors"
HEAD, EMBEDDING = "lm_head", "model.embed_tokens.weight"
_DTYPES = {"BF16": torch.bfloat16, "F32": torch.float32, "I8": torch.int8, "U8": torch.uint8}

Read = Callable[..., Tensor]
"""Reads a tensor by its name in a dtype, bf16 if none is given."""


def cpu_layout(wanted: str = "auto") -> str:
    """How weights are stored for this processor; `wanted` is as in the settings."""
    packed = nf4.has_kernel() and (wanted != "auto" or not nf4.has_matrix_units())
    return "packed" if packed and wanted != "int8" else "int8"


def form(layout: str) -> str:
    """The number format of a layout, for people."""
    return layout if layout in ("int8", FP32) else "NF4"


def quantise(model: PreTrainedModel, layout: str, read: Read) -> dict[str, Tensor]:
    """Turns a dense model on "meta" into the tensors by name that `load` reads.

    Every `nn.Linear` is quantised, `lm_head` included; everything else stays in bf16. Tensors are read one by one, and
    the dense model is never in memory.
    """
    tensors: dict[str, Tensor] = {}
    for name, module in model.named_modules():
        if not isinstance(module, nn.Linear):
            continue
        if layout == "int8":
            tensors[f"{name}.weight"], tensors[f"{name}.scales"] = int8.quantise(read(f"{name}.weight"))
            continue
        tensors[f"{name}.weight"], others = nf4.quantise(read(f"{name}.weight"), layout)
        tensors |= {f"{name}.weight.{part}": value for part, value in others.items()}
    others = [name for name in model.state_dict() if name not in tensors]
    return tensors | {name: read(name).contiguous() for name in others}


def save(tensors: dict[str, Tensor], path: Path) -> None:
    save_file(tensors, path, metadata={"format": "pt"})


def load(
    path: Path, config: dict[str, Any], layout: str, device: torch.device | str = "cpu", wide: bool = False
) -> SimpleNamespace:
    """Reads a model from the file that `save` wrote; it has the attributes of transformers' models that we use.

    Matrices are read into memory, since in a mapped file they begin at any address: on a cache line, as torch puts
    them, one token takes 33 and 78 ms (0.5B, 1.5B, one thread) instead of 42 and 112. On a processor the embedding
    stays in the file and is mapped, since only a few of its rows are looked up.

    `config` has the values of the model's `config.json`. On a processor the file's `layout` must be `cpu_layout`: the
    kernels do not check. `wide` keeps NF4's numbers as bf16, see `WideNf4Linear`.

    Raises:
        KeyError, ValueError: The file is damaged or is not this model's.
    """
    about = SimpleNamespace(**{"eos_token_id": None, **config})
    if missing := {"hidden_size", "num_hidden_layers", "vocab_size", "rope_parameters"} - config.keys():
        raise KeyError(f"config.json: {', '.join(sorted(missing))}")
    with path.open("rb") as file:
        stored = _Stored(file, layout, device, wide)
        decoder = SimpleNamespace(
            embed_tokens=stored.embedding(),
            layers=[layer_of(n, stored.about, stored.vector, stored.product) for n in range(about.num_hidden_layers)],
            norm=SimpleNamespace(weight=stored.vector("model.norm.weight")),
        )
        device = decoder.embed_tokens.weight.device
        return SimpleNamespace(config=about, model=decoder, lm_head=stored.product([HEAD]), device=device)


class _Stored:
    """The tensors of an open file of safetensors, which are read; the embedding alone is mapped."""

    def __init__(self, file: BinaryIO, layout: str, device: torch.device | str, wide: bool = False) -> None:
        length = int.from_bytes(file.read(8), "little")
        self.about: dict[str, Any] = json.loads(file.read(length))
        self._file, self._start, self._layout, self._device, self._wide = file, 8 + length, layout, device, wide

    def joined(self, names: Sequence[str]) -> Tensor:
        """Tensors of one width as one, in the file's dtype."""
        about = [self.about[name] for name in names]
        rows = [each["shape"][0] for each in about]
        whole = torch.empty(sum(rows), *about[0]["shape"][1:], dtype=_DTYPES[about[0]["dtype"]])
        for part, each in zip(whole.split(rows), about, strict=True):
            start, end = each["data_offsets"]
            self._file.seek(self._start + start)
            if not end - start == part.nbytes == self._file.readinto(part.view(torch.uint8).numpy()):  # pyright: ignore
                raise ValueError("it is cut off")
        return whole

    def vector(self, name: str) -> Tensor:
        """A norm's weights or a bias; with int8, everything between the products is float32."""
        vector = self.joined([name])
        return (vector.float() if self._layout == "int8" else vector).to(self._device)

    def embedding(self) -> nn.Embedding:
        about = self.about[EMBEDDING]
        (start, end), dtype = about["data_offsets"], _DTYPES[about["dtype"]]
        mapped = np.memmap(self._file, np.uint8, "c", self._start + start, (end - start,))
        kind = WideEmbedding if self._layout == "int8" else nn.Embedding
        return kind.from_pretrained(torch.from_numpy(mapped).view(dtype).view(about["shape"]).to(self._device))

    def product(self, names: Sequence[str]) -> nn.Module:
        """One layer of several matrices that read the same input."""
        if self._layout == "plain":
            return joined([self._linear4bit(name).to(self._device) for name in names])
        weights = [f"{name}.weight" for name in names]
        biases = [self.vector(name) for each in names if (name := f"{each}.bias") in self.about]
        codes, bias = self.joined(weights), torch.cat(biases) if biases else None
        if self._layout == "int8":
            return Int8Linear(codes, self.joined([f"{name}.scales" for name in names]), bias)
        scales = [self.joined([f"{weight}.absmax"]) for weight in weights]
        return (WideNf4Linear if self._wide else Nf4Linear)(codes, torch.cat(scales, dim=1), bias)

    def _linear4bit(self, name: str) -> Any:
        prefix, bias = f"{name}.weight.", f"{name}.bias"
        state = {each.removeprefix(prefix): self.joined([each]) for each in self.about if each.startswith(prefix)}
        return nf4.linear4bit(self.joined([f"{name}.weight"]), state, self.vector(bias) if bias in self.about else None)


def as_transformers(folder: Path, layout: str) -> PreTrainedModel:
    """A converted model in transformers' own modules, on the processor, with this engine's layers in them."""
    from transformers import AutoConfig

    model: Any = skeleton(AutoConfig.from_pretrained(folder))
    with (folder / WEIGHTS).open("rb") as file:
        stored = _Stored(file, layout, "cpu")
        for name, module in list(model.named_modules()):
            if isinstance(module, nn.Linear):
                model.set_submodule(name, stored.product([name]))
            elif isinstance(module, nn.Embedding):
                model.set_submodule(name, stored.embedding())
        left = {name: stored.vector(name) for name, value in model.named_parameters() if value.is_meta}
    model.load_state_dict(left, strict=False, assign=True)
    return _ready(model)


def dense(model: PreTrainedModel, read: Read, dtype: torch.dtype = torch.bfloat16) -> Any:
    """Gives a model on "meta" its weights; it is then in eval mode and without gradients."""
    model.load_state_dict({name: read(name, dtype) for name in model.state_dict()}, assign=True)
    if model.config.tie_word_embeddings:
        model.tie_weights()
    return _ready(model)


def _ready(model: Any) -> Any:
    """Gives a model that was built on "meta" its rotary frequencies, which are computed and not stored."""
    for name, module in list(model.named_modules()):
        if any(buffer.is_meta for buffer in module.buffers(recurse=False)):
            model.set_submodule(name, type(module)(config=model.config))
    return model.eval().requires_grad_(False)
