"""Matrices turned into NF4, in the layout that a product wants.

The layout `plain` is what bitsandbytes quantises to, with doubly quantised scales. On a processor with AVX512-BF16 its
kernel wants the nibbles of 32 rows interleaved and the scales in bf16. `Linear4bit.forward` would convert each matrix
at its first use: measured 18 s for the 0.5B and 1.5B together on 2 cores. So that layout, `packed`, is stored there.
"""

from __future__ import annotations

import math
from typing import Any

import bitsandbytes as bnb
import torch
from bitsandbytes import functional as bnbf
from torch import Tensor, nn

from engine.model.nf4 import BLOCK, PACK_ROWS

# bitsandbytes' CPU quantiser makes several fp32 temporaries; 8M weights at a time keep them at some 100 MB and in
# memory that is reused: 48M weights/s, against 13M/s for the 233M of an lm_head in one go.
CHUNK = 8_000_000


def quantise_weight(weight: Tensor, layout: str) -> tuple[Tensor, bnbf.QuantState]:
    """Quantises one matrix to NF4, block size 64, with doubly quantised scales.

    Args:
        weight: [out, in] in bf16 or fp32, `in` a multiple of 64.
        layout: `plain`, or `packed`, where rows of zeros are added up to a multiple of 32.

    Returns:
        uint8 codes ([out · in / 2, 1] plain, [out, in / 2] packed) and bitsandbytes' state (scales, shape, code).
    """
    assert weight.ndim == 2 and weight.shape[1] % BLOCK == 0, f"{tuple(weight.shape)} does not divide into blocks"
    if layout == "packed":
        weight = nn.functional.pad(weight, (0, 0, 0, -len(weight) % PACK_ROWS))
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
    codes = [codes for codes, _ in parts]
    return _pack(codes, state, rows) if layout == "packed" else (torch.cat(codes), state)


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


def linear4bit(file: Any, name: str, inputs: int, outputs: int) -> bnb.nn.Linear4bit:
    """A layer in the layout `plain` from a store's open file; a ValueError if what is stored is another's."""
    prefix, names = f"{name}.weight.", file.keys()
    with torch.device("meta"):
        linear = bnb.nn.Linear4bit(
            inputs, outputs, bias=f"{name}.bias" in names, compute_dtype=torch.bfloat16, quant_type="nf4"
        )
    parts = {key.removeprefix(prefix): file.get_tensor(key).clone() for key in names if key.startswith(prefix)}
    codes = file.get_tensor(f"{name}.weight").clone()
    state: Any = bnbf.QuantState.from_dict(parts, device=torch.device("cpu"))
    if tuple(state.shape) != (outputs, inputs) or codes.numel() * 2 != math.prod(state.shape):
        raise ValueError(f"{name}: stored as {tuple(state.shape)}, the model wants {(outputs, inputs)}")
    params4bit: Any = bnb.nn.Params4bit  # pyright does not see its __new__ behind nn.Parameter's
    weight = params4bit(
        codes, requires_grad=False, quant_state=state, blocksize=BLOCK, quant_type="nf4", bnb_quantized=True
    )
    weight.module, linear.weight, linear.quant_state = linear, weight, state
    if linear.bias is not None:
        linear.bias = nn.Parameter(file.get_tensor(f"{name}.bias").clone(), requires_grad=False)
    return linear.requires_grad_(False)
