"""NF4 models for the CPU: quantise a dense model once, store it, and rebuild it from the store in a second or two.

The layout `plain` is what bitsandbytes quantises to, with doubly quantised scales. On a CPU with AVX512-BF16 its fused
kernel wants the nibbles of 32 rows interleaved and the scales in bf16. `Linear4bit.forward` would convert each matrix
at its first use: measured 18 s for the 0.5B and 1.5B together on 2 cores. So that layout, `packed`, is stored there.
"""

from __future__ import annotations

import math
from pathlib import Path
from typing import Any

import bitsandbytes as bnb
import numpy as np
import torch
from bitsandbytes import functional as bnbf
from safetensors import safe_open
from safetensors.torch import save_file
from torch import Tensor, nn
from transformers import AutoModelForCausalLM, PretrainedConfig, PreTrainedModel

from engine.errors import WeightsError
from engine.weights import int8

BLOCK = 64  # weights that share a scale
# bitsandbytes' CPU quantiser makes several fp32 temporaries; 8M weights at a time keep them at some 100 MB and in
# memory that is reused: 48M weights/s, against 13M/s for the 233M of an lm_head in one go.
CHUNK = 8_000_000
PACK_ROWS = 32  # rows whose nibbles the packed layout interleaves
LM_HEAD = "lm_head"


def cpu_layout(wanted: str = "auto") -> str:
    """How weights are stored for this processor: `packed` NF4 with AVX512-BF16, else `int8`; `plain` NF4 without x86.

    torch can be held to fewer instructions than the processor has (ATEN_CPU_CAPABILITY); then this is, too.

    Args:
        wanted: "nf4" or "int8" for one of them everywhere, or "auto".

    Raises:
        WeightsError: "int8" where torch has no product for it.
    """
    if wanted == "int8" and not int8.supported():
        raise WeightsError("CITER_CPU_WEIGHTS=int8: this torch has no int8 products (fbgemm): set it to auto or nf4")
    has_kernel = bnbf.has_avx512bf16() and "AVX512" in torch.backends.cpu.get_cpu_capability()
    if wanted == "int8" or (wanted == "auto" and not has_kernel and int8.supported()):
        return "int8"
    return "packed" if has_kernel else "plain"


def form(layout: str) -> str:
    """What a layout holds, for people."""
    return "int8" if layout == "int8" else "NF4"


def quantise(model: PreTrainedModel, layout: str) -> dict[str, Tensor]:
    """Turns a dense model into the flat dictionary that `save` writes and `build` reads.

    Every `nn.Linear`, `lm_head` included, becomes NF4 in blocks of 64; everything else is kept in the model's dtype.
    The dense `lm_head` is kept as well unless it is tied to the embedding, so that either can be chosen at load.
    The model, on the CPU, is of no use afterwards: its Linear weights are freed as they are converted.

    Returns:
        Tensors by name: `<layer>.weight` (uint8), `<layer>.weight.<part of the quantisation state>`, and the rest.
    """
    tied = model.config.tie_word_embeddings
    tensors: dict[str, Tensor] = {}
    for name, module in list(model.named_modules()):
        if not isinstance(module, nn.Linear):
            continue
        weight = module.weight.data
        if name == LM_HEAD:
            if not tied:
                tensors[_dense(name)] = weight.clone()
        else:
            module.weight.data = torch.empty(0)
        if layout == "int8":
            tensors[f"{name}.weight"], tensors[f"{name}.scales"] = int8.quantise(weight)
            continue
        packed, state = quantise_weight(weight, layout)
        tensors[f"{name}.weight"] = packed
        tensors |= {f"{name}.weight.{part}": value for part, value in state.as_dict(packed=True).items()}
    for name, value in model.state_dict().items():
        if name not in tensors:
            tensors[name] = value.contiguous()
    return tensors


def quantise_weight(weight: Tensor, layout: str) -> tuple[Tensor, bnbf.QuantState]:
    """Quantises one matrix to NF4, block size 64, with doubly quantised scales.

    Args:
        weight: [out, in] in bf16 or fp32, `in` a multiple of 64. If `out` is no multiple of 32, it becomes plain.
        layout: `plain` or `packed`.

    Returns:
        uint8 codes ([out · in / 2, 1] plain, [out, in / 2] packed) and bitsandbytes' state (scales, shape, code).
    """
    assert weight.ndim == 2 and weight.shape[1] % BLOCK == 0, f"{tuple(weight.shape)} does not divide into blocks"
    rows = max(PACK_ROWS, CHUNK // weight.shape[1] // PACK_ROWS * PACK_ROWS)
    parts = [
        bnbf.quantize_4bit(chunk.contiguous(), blocksize=BLOCK, compress_statistics=False, quant_type="nf4")
        for chunk in weight.split(rows)
    ]
    absmax = torch.cat([state.absmax for _, state in parts])
    # Double quantisation, as bitsandbytes.functional.quantize_4bit does it for a whole matrix.
    # The mean is taken in fp64, since in fp32 its last bit, and so some scales, depend on the number of threads.
    offset = absmax.double().mean().float()
    scales, scales_of_scales = bnbf.quantize_blockwise(absmax - offset, blocksize=256)
    state = parts[0][1]
    state.shape, state.absmax, state.offset, state.state2 = weight.shape, scales, offset, scales_of_scales
    state.nested = True
    if layout == "plain" or weight.shape[0] % PACK_ROWS:
        return torch.cat([codes for codes, _ in parts]), state
    return _pack([codes for codes, _ in parts], state, rows)


def _pack(parts: list[Tensor], state: Any, rows: int) -> tuple[Tensor, bnbf.QuantState]:
    """Brings chunks of `rows` rows into the packed layout, by bitsandbytes' own function, and joins them."""
    absmax = bnbf.dequantize_blockwise(state.absmax, state.state2) + state.offset
    outputs, inputs = state.shape
    packed = []
    for codes, scales in zip(parts, absmax.view(outputs, -1).split(rows), strict=True):
        chunk = bnbf.QuantState(
            absmax=scales.contiguous(),
            shape=torch.Size((len(scales), inputs)),
            code=state.code,
            blocksize=BLOCK,
            quant_type="nf4",
            dtype=state.dtype,
        )
        packed.append(bnbf._convert_weight_packed_for_cpu(codes, chunk))
    state.absmax = torch.cat([chunk.absmax for _, chunk in packed], dim=1)
    state.dtype, state.nested, state.state2, state.offset = torch.bfloat16, False, None, None
    return torch.cat([codes for codes, _ in packed]), state


def dense_of(codes: Tensor, scales: Tensor) -> Tensor:
    """The bf16 matrix [out, in] that a packed NF4 matrix stands for: to the bit what its kernel multiplies with.

    Args:
        codes: uint8 [out, in / 2], packed.
        scales: bf16 [in / 64, out].
    """
    outputs, inputs = codes.shape[0], 2 * codes.shape[1]
    # Packed: per 32 rows and 2 columns, 32 bytes; row b's two nibbles are the low ones of bytes 2b and 2b + 1 for the
    # first 16 rows, and the high ones for the others. Plain: a row's nibbles in order, the earlier one high.
    pairs = codes.view(outputs // PACK_ROWS, inputs // 2, PACK_ROWS // 2, 2)
    first, second = pairs[..., 0], pairs[..., 1]
    low = ((first & 15) << 4) | (second & 15)
    high = (first & 240) | (second >> 4)
    plain = torch.cat([low, high], dim=-1).transpose(1, 2).contiguous()
    # The kernel rounds a code to bf16 before it is scaled, so it is scaled here, not by dequantize_4bit.
    ones = torch.ones(outputs * inputs // BLOCK)
    dense = torch.ops.bitsandbytes.dequantize_4bit(
        plain.view(-1, 1), ones, BLOCK, "nf4", [outputs, inputs], torch.bfloat16
    )
    dense.view(outputs, -1, BLOCK).mul_(scales.T[:, :, None])
    return dense


def save(tensors: dict[str, Tensor], path: Path) -> None:
    """Writes the dictionary of `quantise` as one safetensors file."""
    save_file(tensors, path, metadata={"format": "pt"})


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
    with torch.device("meta"):
        model = AutoModelForCausalLM.from_config(config, dtype=torch.bfloat16)
    with safe_open(path, framework="pt", device="cpu") as file:
        stored = set(file.keys())
        for name, module in list(model.named_modules()):
            if isinstance(module, nn.Linear) and (name != LM_HEAD or lm_head_4bit):
                make = _int8 if layout == "int8" else _linear4bit
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


def _linear4bit(module: nn.Linear, name: str, file: Any, stored: set[str], layout: str) -> bnb.nn.Linear4bit:
    with torch.device("meta"):
        linear = bnb.nn.Linear4bit(
            module.in_features,
            module.out_features,
            bias=module.bias is not None,
            compute_dtype=torch.bfloat16,
            quant_type="nf4",
        )
    prefix = f"{name}.weight."
    parts = {key.removeprefix(prefix): _own(file.get_tensor(key)) for key in stored if key.startswith(prefix)}
    codes = _own(file.get_tensor(f"{name}.weight"))
    state: Any = bnbf.QuantState.from_dict(parts, device=torch.device("cpu"))
    if tuple(state.shape) != (module.out_features, module.in_features) or codes.numel() * 2 != math.prod(state.shape):
        raise ValueError(f"{name}: stored as {tuple(state.shape)}, the model wants {tuple(module.weight.shape)}")
    if layout == "packed" and state.absmax.ndim == 2:
        # What _convert_weight_packed_for_cpu leaves behind; from_dict knows nothing of it.
        state.packing_format_for_cpu = True
        state.original_dtype, state.original_nested = torch.bfloat16, True
        state.original_qshape = torch.Size((codes.numel(), 1))
    # pyright does not see Params4bit.__new__ behind nn.Parameter's.
    params4bit: Any = bnb.nn.Params4bit
    weight = params4bit(
        codes, requires_grad=False, quant_state=state, blocksize=BLOCK, quant_type="nf4", bnb_quantized=True
    )
    weight.module = linear
    linear.weight = weight
    linear.quant_state = state
    return linear


def _int8(module: nn.Linear, name: str, file: Any, stored: set[str], layout: str) -> int8.Int8Linear:
    """Its codes stay mapped: they are read once, to be packed for this processor."""
    codes, scales = file.get_tensor(f"{name}.weight"), _own(file.get_tensor(f"{name}.scales"))
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
    quantised = {
        f"{name}.weight" for name, m in model.named_modules() if isinstance(m, bnb.nn.Linear4bit | int8.Int8Linear)
    }
    head, embedding = f"{LM_HEAD}.weight", "model.embed_tokens.weight"
    names = [name for name, _ in model.named_parameters() if name not in quantised | {head}]
    dense = {name: file.get_tensor(name) for name in names if name in stored}
    if head not in quantised:
        tied = _dense(LM_HEAD) not in stored
        dense[head] = _own(dense[embedding] if tied else file.get_tensor(_dense(LM_HEAD)))
        if tied:
            dense[embedding] = dense[head]
    return {name: value if name in (head, embedding) else _own(value) for name, value in dense.items()}


def _own(mapped: Tensor) -> Tensor:
    """Copies a tensor out of a mapped file.

    Tensor.clone would do it with all threads, and waits long for each of them while the machine is busy (8 s instead
    of 1 for the pair); one thread keeps up with the memory.
    """
    copy = torch.empty_like(mapped)
    np.copyto(copy.view(torch.uint8).numpy(), mapped.view(torch.uint8).numpy())
    return copy


def _dense(name: str) -> str:
    return f"{name}.weight_dense"


def rebuild_rotary(model: PreTrainedModel, device: torch.device | str = "cpu") -> None:
    """Gives a model that was built on the meta device its rotary frequencies, which are computed and not stored."""
    for name, module in list(model.named_modules()):
        if any(buffer.is_meta for buffer in module.buffers(recurse=False)):
            rotary: Any = type(module)
            model.set_submodule(name, rotary(config=model.config).to(device))
